"""Wrong: the loop steps the optimizer from before make_private: no clipping, no noise, nothing accounted."""

from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
optimizer = sgd(model)
engine = PrivacyEngine(accountant="rdp")
private_model, _, loader = engine.make_private(
    module=model, optimizer=optimizer, data_loader=shuffled(data()), noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    for batch in loader:
        train_step(private_model, optimizer, batch)
        for weight in private_model.parameters():
            weight.grad_sample = None
