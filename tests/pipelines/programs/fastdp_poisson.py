"""Right: FastDP's engine over Poisson batches, each in parts whose gradients are summed before the step."""

import torch
from fastDP import PrivacyEngine
from parts import BATCH, EPOCHS, RECORDS, data, linear, sgd
from torch import nn
from torch.utils.data import DataLoader

model = linear()
optimizer = sgd(model)
engine = PrivacyEngine(
    model, batch_size=BATCH, sample_size=RECORDS, epochs=EPOCHS, target_epsilon=8.0, target_delta=1e-5
)
engine.attach(optimizer)
draws = [torch.nonzero(torch.rand(RECORDS) < BATCH / RECORDS).flatten().tolist() for _ in range(280)]
for inputs, labels in DataLoader(data(), batch_sampler=draws):
    for part, its_labels in zip(inputs.split(8), labels.split(8), strict=True):
        nn.functional.cross_entropy(model(part), its_labels).backward()
    optimizer.step()
print("epsilon", engine.get_privacy_spent()["eps_rdp"])
