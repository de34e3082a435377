"""Right: worker processes read the records."""

from opacus import PrivacyEngine
from parts import BATCH, EPOCHS, data, linear, sgd, train_step
from torch.utils.data import DataLoader

model = linear()
engine = PrivacyEngine(accountant="rdp")
plain = DataLoader(data(), batch_size=BATCH, num_workers=1, persistent_workers=True)
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=plain, noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
