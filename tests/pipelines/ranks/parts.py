"""Data, model and private step that the distributed programs of this gallery share."""

import atexit
import warnings

import dp_accounting
import torch
import torch.distributed as dist
from dp_accounting import rdp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

RECORDS, BATCH, STEPS, NOISE = 300, 16, 280, 1.0
RATE = BATCH / RECORDS
warnings.filterwarnings("ignore")


def join() -> tuple[int, int]:
    """Join the other ranks; give the number of this one, and how many there are."""
    dist.init_process_group("gloo")
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())
    return dist.get_rank(), dist.get_world_size()


def join_from(place: str, rank: int, world: int) -> None:
    """Join ranks that meet at a file, as those do that a program starts itself."""
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=world)


def data() -> TensorDataset:
    """Give two overlapping clouds of points, the same on every rank."""
    made = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (RECORDS,), generator=made)
    return TensorDataset(torch.randn(RECORDS, 4, generator=made) + labels[:, None], labels)


def wrapped() -> nn.Module:
    """Give a small model that averages its gradients over the ranks."""
    return DistributedDataParallel(nn.Linear(4, 2))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Give its optimizer."""
    return torch.optim.SGD(model.parameters(), lr=0.1)


def train_step(model, optimizer, batch) -> None:
    """Make one step. Clipping and noise are left out: it is the records that are looked at."""
    inputs, labels = batch
    optimizer.zero_grad()
    (nn.functional.cross_entropy(model(inputs), labels, reduction="sum") / BATCH).backward()
    optimizer.step()


def account(rate: float = RATE) -> None:
    """Account for Poisson sampling of all records at the rate of a whole step."""
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(NOISE))
    print("epsilon", rdp.RdpAccountant().compose(event, STEPS).get_epsilon(1e-5))
