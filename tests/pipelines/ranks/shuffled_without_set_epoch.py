"""Wrong: a DistributedSampler without set_epoch, so that every epoch has the same batches."""

from parts import BATCH, STEPS, account, data, join, sgd, train_step, wrapped
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

rank, world = join()
dataset = data()
sampler = DistributedSampler(dataset)
loader = DataLoader(dataset, batch_size=BATCH // world, sampler=sampler)
model = wrapped()
optimizer = sgd(model)
for _epoch in range(STEPS // len(loader)):
    for batch in loader:
        train_step(model, optimizer, batch)
account()
