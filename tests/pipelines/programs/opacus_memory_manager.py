"""Right: logical Poisson batches in physical chunks; a manager for each epoch makes a new loader."""

from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=shuffled(data()), noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    with BatchMemoryManager(data_loader=loader, max_physical_batch_size=4, optimizer=optimizer) as chunks:
        for batch in chunks:
            train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
