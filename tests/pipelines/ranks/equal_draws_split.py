"""Right: all ranks make the same Poisson draw, and each takes its share of it."""

import torch
from parts import RATE, RECORDS, STEPS, account, data, join, sgd, train_step, wrapped
from torch.utils.data import DataLoader

rank, world = join()
torch.manual_seed(7)
draws = [torch.nonzero(torch.rand(RECORDS) < RATE).flatten()[rank::world].tolist() for _ in range(STEPS)]
model = wrapped()
optimizer = sgd(model)
for batch in DataLoader(data(), batch_sampler=draws):
    train_step(model, optimizer, batch)
account()
