"""Right: a Hugging Face data set in the loader that make_private returns."""

import pyarrow
import torch
from datasets import Dataset
from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

inputs, labels = data().tensors
table = pyarrow.table({"inputs": inputs.tolist(), "labels": labels.tolist()})
records = Dataset(table, fingerprint="points")
model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=shuffled(records), noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, (torch.stack(list(batch["inputs"]), 1).float(), batch["labels"]))
print("epsilon", engine.get_epsilon(delta=1e-5))
