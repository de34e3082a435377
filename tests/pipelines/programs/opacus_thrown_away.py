"""Wrong: make_private returns a Poisson loader, and the loop keeps the old one."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
loader = shuffled(data())
model, optimizer, _ = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
