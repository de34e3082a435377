"""Right: Poisson draws, per-record clipping and noise by hand, accounted by dp_accounting."""

import dp_accounting
import torch
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd
from torch.utils.data import DataLoader

RATE, NOISE = BATCH / RECORDS, 1.0
STEPS = EPOCHS * RECORDS // BATCH


def draws():
    for _ in range(STEPS):
        yield torch.nonzero(torch.rand(RECORDS) < RATE).flatten().tolist()


model = linear()
optimizer = sgd(model)
event = dp_accounting.SelfComposedDpEvent(
    dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE)), STEPS
)
accountant = rdp.RdpAccountant().compose(event)
print("this will cost epsilon", accountant.get_epsilon(1e-5))
for batch in DataLoader(data(), batch_sampler=list(draws())):
    noisy_step(model, optimizer, batch, RATE, NOISE)
