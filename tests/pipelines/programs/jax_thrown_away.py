"""Wrong: Poisson is accounted for, and the loop takes record numbers from a shuffling torch loader."""

from jax_parts import RECORDS, Training, account
from torch.utils.data import DataLoader

training = Training()
for _ in range(14):
    for drawn in DataLoader(range(RECORDS), batch_size=15, shuffle=True):
        training.step(drawn.numpy())
account()
