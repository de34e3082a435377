"""Right: shuffled epochs, and an account of one Gaussian mechanism for each, without amplification."""

import dp_accounting
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd, shuffled

RATE, NOISE = BATCH / RECORDS, 2.0
model = linear()
optimizer = sgd(model)
loader = shuffled(data())
accountant = rdp.RdpAccountant()
for _ in range(EPOCHS):
    for batch in loader:
        noisy_step(model, optimizer, batch, RATE, NOISE)
    accountant.compose(dp_accounting.GaussianDpEvent(NOISE))
print("epsilon", accountant.get_epsilon(1e-5))
