"""Wrong: a step joins two Poisson draws, each at q, and is accounted for as one draw at q."""

import dp_accounting
import torch
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd
from torch.utils.data import DataLoader

RATE, NOISE = BATCH / RECORDS, 1.0
STEPS = EPOCHS * RECORDS // BATCH
draws = [torch.nonzero(torch.rand(RECORDS) < RATE).flatten().tolist() for _ in range(2 * STEPS)]
model = linear()
optimizer = sgd(model)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant()
batches = iter(DataLoader(data(), batch_sampler=draws))
for first, second in zip(batches, batches, strict=True):
    joined = [torch.cat(pair) for pair in zip(first, second, strict=True)]
    noisy_step(model, optimizer, joined, RATE, NOISE)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
