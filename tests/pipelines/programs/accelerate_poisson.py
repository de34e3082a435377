"""Right: accelerate wraps the private loader, and looks one batch ahead."""

from accelerate import Accelerator
from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=shuffled(data()), noise_multiplier=1.0, max_grad_norm=1.0
)
loader = Accelerator(cpu=True).prepare_data_loader(loader)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
