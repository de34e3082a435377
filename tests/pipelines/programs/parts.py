"""Data, model and single steps that the programs of this gallery share."""

import warnings

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

RECORDS, BATCH, EPOCHS = 300, 15, 14
warnings.filterwarnings("ignore", message="Secure RNG turned off")
warnings.filterwarnings("ignore", message="Optimal order is the")


def data(records: int = RECORDS) -> TensorDataset:
    """Give two overlapping clouds of points."""
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (records,))
    return TensorDataset(torch.randn(records, 4) + labels[:, None], labels)


def linear() -> nn.Module:
    """Give a small model."""
    return nn.Sequential(nn.Linear(4, 2))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """Give its optimizer."""
    return torch.optim.SGD(model.parameters(), lr=0.1)


def shuffled(dataset: TensorDataset) -> DataLoader:
    """Give the loader that a tutorial gives."""
    return DataLoader(dataset, batch_size=BATCH, shuffle=True)


def train_step(model, optimizer, batch, criterion=nn.functional.cross_entropy) -> None:
    """Make one step, as every tutorial does."""
    inputs, labels = batch
    optimizer.zero_grad()
    criterion(model(inputs), labels).backward()
    optimizer.step()


def noisy_step(model, optimizer, batch, rate: float, noise: float, clip_norm: float = 1.0) -> None:
    """Make one step of DP-SGD by hand, with the gradient of each record by torch.func."""
    weights = dict(model.named_parameters())

    def loss(values, record, label):
        scores = torch.func.functional_call(model, values, (record[None],))
        return nn.functional.cross_entropy(scores, label[None])

    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    if len(batch[0]):
        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, *batch)
        norms = torch.cat([part.flatten(1) for part in each.values()], 1).norm(dim=1)
        factors = (clip_norm / norms).clamp(max=1.0)
        sums = {name: torch.einsum("i,i...->...", factors, part) for name, part in each.items()}
    for name, weight in weights.items():
        total = sums[name].detach()
        weight.grad = (total + noise * clip_norm * torch.randn_like(total)) / (rate * RECORDS)
    optimizer.step()
