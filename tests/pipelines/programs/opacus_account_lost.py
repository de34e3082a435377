"""Wrong: the engine is made anew half-way, as after a resume without its checkpoint: half the steps count."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
plain, base = shuffled(data()), sgd(model)
for _ in range(2):
    engine = PrivacyEngine(accountant="rdp")
    model, optimizer, loader = engine.make_private(
        module=model, optimizer=base, data_loader=plain, noise_multiplier=1.0, max_grad_norm=1.0
    )
    for _ in range(EPOCHS // 2):
        for batch in loader:
            train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
