"""Wrong: a sampler that evens out the classes draws with replacement and unequal weights."""

import dp_accounting
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd
from torch.utils.data import DataLoader, WeightedRandomSampler

RATE, NOISE = BATCH / RECORDS, 1.0
dataset = data()
labels = dataset.tensors[1]
weights = (1.0 / labels.bincount())[labels]
loader = DataLoader(dataset, batch_size=BATCH, sampler=WeightedRandomSampler(weights, RECORDS))
model = linear()
optimizer = sgd(model)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant()
for _ in range(EPOCHS):
    for batch in loader:
        noisy_step(model, optimizer, batch, RATE, NOISE)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
