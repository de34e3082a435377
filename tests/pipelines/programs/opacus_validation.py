"""Right: between epochs a validation set and the training set itself are walked over, without training."""

import torch
from opacus import PrivacyEngine
from parts import BATCH, EPOCHS, data, linear, sgd, shuffled, train_step
from torch.utils.data import DataLoader

model = linear()
engine = PrivacyEngine(accountant="rdp")
plain = shuffled(data())
validation = DataLoader(data(90), batch_size=BATCH)
inputs, _ = next(iter(plain))  # a look at the shapes
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=plain, noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    model.train()
    for batch in loader:
        train_step(model, optimizer, batch)
    model.eval()
    for held_out in (plain, validation):
        right = 0
        for inputs, labels in held_out:
            with torch.no_grad():
                right += int((model(inputs).argmax(1) == labels).sum())
        print(right / len(held_out.dataset))
print("epsilon", engine.get_epsilon(delta=1e-5))
