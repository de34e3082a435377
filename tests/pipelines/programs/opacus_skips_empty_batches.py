"""Wrong: empty Poisson batches are skipped, so that a step tells that somebody was in it."""

from opacus import PrivacyEngine
from parts import data, linear, sgd, train_step
from torch.utils.data import DataLoader

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model,
    optimizer=sgd(model),
    data_loader=DataLoader(data(), batch_size=2),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
)
for _ in range(3):
    for inputs, labels in loader:
        if len(inputs) == 0:
            continue
        train_step(model, optimizer, (inputs, labels))
print("epsilon", engine.get_epsilon(delta=1e-5))
