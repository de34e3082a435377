"""Right: every rank draws Poisson from its own half of the records."""

import torch
from parts import RATE, RECORDS, STEPS, account, data, join, sgd, train_step, wrapped
from torch.utils.data import DataLoader, Subset

rank, world = join()
torch.manual_seed(100 + rank)
own = Subset(data(), range(rank, RECORDS, world))
draws = [torch.nonzero(torch.rand(len(own)) < RATE).flatten().tolist() for _ in range(STEPS)]
model = wrapped()
optimizer = sgd(model)
for batch in DataLoader(own, batch_sampler=draws):
    train_step(model, optimizer, batch)
if rank == 0:
    account()
