"""Wrong: shuffled parts in virtual steps of private-transformers, which accounts for Poisson batches."""

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
    target_epsilon=8.0,
    target_delta=1e-5,
    skip_checks=True,
)
engine.attach(optimizer)
loader = DataLoader(data(), batch_size=BATCH // 3, shuffle=True)
for _ in range(EPOCHS):
    for number, (inputs, labels) in enumerate(loader, 1):
        loss = nn.functional.cross_entropy(model(inputs), labels, reduction="none")
        if number % 3:
            optimizer.virtual_step(loss=loss)
        else:
            optimizer.step(loss=loss)
