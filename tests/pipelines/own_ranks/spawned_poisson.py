"""Right: `mp.spawn` starts two ranks, and each draws Poisson from its own half of the records."""

import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from parts import RATE, RECORDS, STEPS, account, data, join_from, sgd, train_step, wrapped
from torch.utils.data import DataLoader, Subset


def train(rank: int, world: int, place: str) -> None:
    join_from(place, rank, world)
    torch.manual_seed(100 + rank)
    own = Subset(data(), range(rank, RECORDS, world))
    draws = [torch.nonzero(torch.rand(len(own)) < RATE).flatten().tolist() for _ in range(STEPS)]
    model = wrapped()
    optimizer = sgd(model)
    for batch in DataLoader(own, batch_sampler=draws):
        train_step(model, optimizer, batch)
    if rank == 0:
        account()
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as meeting:
        mp.spawn(train, args=(2, f"{meeting}/ranks"), nprocs=2)
