"""Wrong: batches that would not fit are left out, so that sizes are cut."""

from opacus import PrivacyEngine
from parts import BATCH, EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=shuffled(data()), noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    for batch in loader:
        if len(batch[0]) > BATCH + 3:
            continue
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
