"""Wrong: accelerate prepares the loader from before make_private."""

from accelerate import Accelerator
from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
plain = shuffled(data())
model, optimizer, _ = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=plain, noise_multiplier=1.0, max_grad_norm=1.0
)
loader = Accelerator(cpu=True).prepare_data_loader(plain)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
