"""Right: noise calibrated for a target, trained for the epochs that it was calibrated for."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private_with_epsilon(
    module=model,
    optimizer=sgd(model),
    data_loader=shuffled(data()),
    target_epsilon=6.0,
    target_delta=1e-5,
    epochs=EPOCHS,
    max_grad_norm=1.0,
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
