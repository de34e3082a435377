"""Wrong: no rank takes a share: all ranks draw the same batches, and each record is in every sum twice."""

import torch
from parts import RATE, RECORDS, STEPS, account, data, join, sgd, train_step, wrapped
from torch.utils.data import DataLoader

rank, world = join()
torch.manual_seed(7)
draws = [torch.nonzero(torch.rand(RECORDS) < RATE / world).flatten().tolist() for _ in range(STEPS)]
model = wrapped()
optimizer = sgd(model)
for batch in DataLoader(data(), batch_sampler=draws):
    train_step(model, optimizer, batch)
account()
