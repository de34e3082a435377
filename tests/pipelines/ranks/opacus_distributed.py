"""Right: Opacus' own distributed training: private model, optimizer and loader that split the records."""

import torch
from opacus import PrivacyEngine
from opacus.distributed import DifferentiallyPrivateDistributedDataParallel
from parts import BATCH, STEPS, data, join, sgd
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

rank, world = join()
torch.manual_seed(100 + rank)
dataset = data()
model = DifferentiallyPrivateDistributedDataParallel(nn.Linear(4, 2))
optimizer = sgd(model)
engine = PrivacyEngine()
model, optimizer, loader = engine.make_private(
    module=model,
    optimizer=optimizer,
    data_loader=DataLoader(dataset, batch_size=BATCH // world, sampler=DistributedSampler(dataset)),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
)
for _ in range(STEPS // len(loader)):
    for inputs, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
print("epsilon", engine.get_epsilon(1e-5))
