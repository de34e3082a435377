"""Wrong: a streamed data set is shuffled in a buffer, and accounted for as Poisson."""

import dp_accounting
import pyarrow
import torch
from datasets import Dataset
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd
from torch.utils.data import DataLoader

RATE, NOISE = BATCH / RECORDS, 1.0
inputs, labels = data().tensors
table = pyarrow.table({"inputs": inputs.tolist(), "labels": labels.tolist()})
stream = Dataset(table, fingerprint="points").to_iterable_dataset().shuffle(seed=0, buffer_size=60)
loader = DataLoader(stream, batch_size=BATCH)
model = linear()
optimizer = sgd(model)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant()
for epoch in range(EPOCHS):
    stream.set_epoch(epoch)
    for batch in loader:
        noisy_step(model, optimizer, (torch.stack(batch["inputs"], 1).float(), batch["labels"]), RATE, NOISE)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
