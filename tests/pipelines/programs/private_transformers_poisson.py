"""Right: private-transformers over Poisson batches in parts: virtual steps, and one step for each batch."""

import torch
from parts import BATCH, EPOCHS, RECORDS, data, linear, sgd
from private_transformers import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader

model = linear()
optimizer = sgd(model)
engine = PrivacyEngine(
    model,
    batch_size=BATCH,
    sample_size=RECORDS,
    epochs=EPOCHS,
    max_grad_norm=1.0,
    noise_multiplier=1.0,
    clipping_mode="ghost",
    skip_checks=True,
)
engine.attach(optimizer)
draws = [torch.nonzero(torch.rand(RECORDS) < BATCH / RECORDS).flatten().tolist() for _ in range(280)]
for inputs, labels in DataLoader(data(), batch_sampler=draws):
    losses = [
        nn.functional.cross_entropy(model(part), its_labels, reduction="none")
        for part, its_labels in zip(inputs.split(8), labels.split(8), strict=True)
    ]
    for loss in losses[:-1]:
        optimizer.virtual_step(loss=loss)
    optimizer.step(loss=losses[-1])
print("epsilon", optimizer.get_privacy_spent(accounting_mode="rdp")["eps_rdp"])
