"""Right: torchdata's stateful loader over Opacus' sampler, accounted by dp_accounting."""

import dp_accounting
from dp_accounting import rdp
from opacus.utils.uniform_sampler import UniformWithReplacementSampler
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd
from torchdata.stateful_dataloader import StatefulDataLoader

RATE, NOISE = BATCH / RECORDS, 1.0
model = linear()
optimizer = sgd(model)
dataset = data()
sampler = UniformWithReplacementSampler(num_samples=RECORDS, sample_rate=RATE)
loader = StatefulDataLoader(dataset, batch_sampler=sampler)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant()
for _ in range(EPOCHS):
    for batch in loader:
        noisy_step(model, optimizer, batch, RATE, NOISE)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
