"""Wrong: for each step a new loader over a random part of fixed size, accounted for as Poisson."""

import dp_accounting
import torch
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd
from torch.utils.data import DataLoader, Subset

RATE, NOISE = BATCH / RECORDS, 1.0
dataset = data()
model = linear()
optimizer = sgd(model)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant()
for _ in range(EPOCHS * RECORDS // BATCH):
    drawn = Subset(dataset, torch.randperm(RECORDS)[:BATCH].tolist())
    noisy_step(model, optimizer, next(iter(DataLoader(drawn, batch_size=BATCH))), RATE, NOISE)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
