"""Right: a prefetcher holds two batches ahead of the training."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step


def ahead(batches, many: int = 2):
    held = []
    for batch in batches:
        held.append(batch)
        if len(held) > many:
            yield held.pop(0)
    yield from held


model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=shuffled(data()), noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    for batch in ahead(loader):
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
