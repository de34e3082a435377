"""Wrong: accelerate gives each rank whole Poisson batches of its own: the rate is that of both together."""

import torch
from accelerate import Accelerator
from parts import RATE, RECORDS, STEPS, account, data, sgd
from torch import nn
from torch.utils.data import DataLoader

accelerator = Accelerator(cpu=True)
torch.manual_seed(7)
draws = [torch.nonzero(torch.rand(RECORDS) < RATE).flatten().tolist() for _ in range(2 * STEPS)]
model = nn.Linear(4, 2)
model, optimizer, loader = accelerator.prepare(model, sgd(model), DataLoader(data(), batch_sampler=draws))
for inputs, labels in loader:
    optimizer.zero_grad()
    accelerator.backward(nn.functional.cross_entropy(model(inputs), labels))
    optimizer.step()
account()
