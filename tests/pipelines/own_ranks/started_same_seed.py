"""Wrong: two processes draw from all records with one seed, so that a step has each of its records twice."""

import tempfile

import torch
import torch.distributed as dist
from parts import RATE, RECORDS, STEPS, account, data, join_from, sgd, train_step, wrapped
from torch.multiprocessing import get_context
from torch.utils.data import DataLoader


def train(rank: int, world: int, place: str) -> None:
    join_from(place, rank, world)
    torch.manual_seed(100)
    draws = [torch.nonzero(torch.rand(RECORDS) < RATE / world).flatten().tolist() for _ in range(STEPS)]
    model = wrapped()
    optimizer = sgd(model)
    for batch in DataLoader(data(), batch_sampler=draws):
        train_step(model, optimizer, batch)
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as meeting:
        context = get_context("spawn")
        ranks = [context.Process(target=train, args=(rank, 2, f"{meeting}/ranks")) for rank in range(2)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join()
    account()
