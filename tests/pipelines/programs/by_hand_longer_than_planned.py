"""Wrong: accounted for half of the epochs before the training, and trained for all of them."""

import dp_accounting
from dp_accounting import rdp
from opacus.data_loader import DPDataLoader
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd

RATE, NOISE = BATCH / RECORDS, 1.0
steps = (EPOCHS // 2) * RECORDS // BATCH
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
print("this will cost epsilon", rdp.RdpAccountant().compose(event, steps).get_epsilon(1e-5))
model = linear()
optimizer = sgd(model)
loader = DPDataLoader(data(), sample_rate=RATE)
for _ in range(EPOCHS):
    for batch in loader:
        noisy_step(model, optimizer, batch, RATE, NOISE)
