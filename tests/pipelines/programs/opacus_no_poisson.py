"""Wrong: poisson_sampling=False, while the accountant goes on accounting for Poisson."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

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
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
