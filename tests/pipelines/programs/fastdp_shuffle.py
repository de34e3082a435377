"""Wrong: FastDP accounts for Poisson at batch_size / sample_size, and a shuffled loader feeds its steps."""

from fastDP import PrivacyEngine
from parts import BATCH, EPOCHS, RECORDS, data, linear, sgd, shuffled, train_step

model = linear()
optimizer = sgd(model)
engine = PrivacyEngine(model, batch_size=BATCH, sample_size=RECORDS, epochs=EPOCHS, noise_multiplier=1.0)
engine.attach(optimizer)
loader = shuffled(data())
for _ in range(EPOCHS):
    for batch in loader:
        train_step(model, optimizer, batch)
print("epsilon", engine.get_privacy_spent()["eps_rdp"])
