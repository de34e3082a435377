"""Wrong: two shuffled batches are accumulated for each step and accounted for as one Poisson draw at 2q."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled
from torch import nn

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model,
    optimizer=sgd(model),
    data_loader=shuffled(data()),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    poisson_sampling=False,
)
for _ in range(EPOCHS):
    for number, (inputs, labels) in enumerate(loader):
        nn.functional.cross_entropy(model(inputs), labels).backward()
        if number % 2 == 1:
            optimizer.step()
            optimizer.zero_grad()
print("epsilon", engine.get_epsilon(delta=1e-5))
