"""Wrong: the accounted rate is that of a loader over all records; the training draws from half of them."""

from opacus import PrivacyEngine
from opacus.data_loader import DPDataLoader
from parts import BATCH, EPOCHS, RECORDS, data, linear, sgd, shuffled, train_step
from torch.utils.data import DataLoader, Subset

model = linear()
everything = data()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, _ = engine.make_private(
    module=model,
    optimizer=sgd(model),
    data_loader=shuffled(everything),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
)
half = DataLoader(Subset(everything, range(RECORDS // 2)), batch_size=BATCH)
loader = DPDataLoader.from_data_loader(half)
for _ in range(2 * EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
