"""Right: ghost clipping, which takes two backward passes for each step."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step
from torch import nn

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, criterion, loader = engine.make_private(
    module=model,
    optimizer=sgd(model),
    data_loader=shuffled(data()),
    criterion=nn.CrossEntropyLoss(),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    grad_sample_mode="ghost",
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch, criterion)
print("epsilon", engine.get_epsilon(delta=1e-5))
