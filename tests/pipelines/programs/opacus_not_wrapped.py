"""Right: hooks in place of a wrapped model, Poisson all the same."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
hooks, optimizer, loader = engine.make_private(
    module=model,
    optimizer=sgd(model),
    data_loader=shuffled(data()),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    wrap_model=False,
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
hooks.cleanup()
print("epsilon", engine.get_epsilon(delta=1e-5))
