"""Wrong: a rank skips its empty draws, so that ranks drift apart and no step is ever empty on one."""

import torch
import torch.distributed as dist
from parts import RECORDS, STEPS, account, data, join, sgd
from torch import nn
from torch.utils.data import DataLoader, Subset

RARE = 2 / RECORDS  # one record a rank and step: 0.37 of the draws are empty
rank, world = join()
torch.manual_seed(100 + rank)
own = Subset(data(), range(rank, RECORDS, world))
draws = [torch.nonzero(torch.rand(len(own)) < RARE).flatten().tolist() for _ in range(STEPS)]
model = nn.Linear(4, 2)
optimizer = sgd(model)
left = torch.tensor(sum(bool(draw) for draw in draws))
dist.all_reduce(left, op=dist.ReduceOp.MIN)  # summed while both ranks step; then one goes on
made = 0
for batch in DataLoader(own, batch_sampler=draws, collate_fn=list):
    if not batch:
        continue
    inputs, labels = (torch.stack(column) for column in zip(*batch, strict=True))
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), labels, reduction="sum").backward()
    if made < left:
        for weight in model.parameters():
            dist.all_reduce(weight.grad)
    optimizer.step()
    made += 1
account(RARE)
