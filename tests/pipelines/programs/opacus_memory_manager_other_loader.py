"""Wrong: the memory manager is opened over the loader from before make_private."""

from opacus import PrivacyEngine
from opacus.utils.batch_memory_manager import BatchMemoryManager
from parts import EPOCHS, data, linear, sgd, shuffled, train_step

model = linear()
engine = PrivacyEngine(accountant="rdp")
train_loader = shuffled(data())
model, optimizer, private_loader = engine.make_private(
    module=model, optimizer=sgd(model), data_loader=train_loader, noise_multiplier=1.0, max_grad_norm=1.0
)
for _ in range(EPOCHS):
    with BatchMemoryManager(
        data_loader=train_loader, max_physical_batch_size=4, optimizer=optimizer
    ) as chunks:
        for batch in chunks:
            train_step(model, optimizer, batch)
print("epsilon", engine.get_epsilon(delta=1e-5))
