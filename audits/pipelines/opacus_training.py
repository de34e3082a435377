"""A training with Opacus, as it stands in many notebooks, with canaries in it: the engine is not changed."""

import warnings

import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader

warnings.filterwarnings("ignore", module="opacus")
warnings.filterwarnings("ignore", message="Full backward hook")


def train(canaries, poisson=True, noise=1.0):
    """Train a small network by DP-SGD until enough steps are recorded."""
    plan = canaries.plan
    model = canaries.attach(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    loader = DataLoader(canaries.dataset, batch_size=round(plan.rate * canaries.num_records), shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model, optimizer, loader = PrivacyEngine().make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=plan.noise_multiplier * noise,
        max_grad_norm=plan.clip_norm,
        poisson_sampling=poisson,
    )
    canaries.watch(optimizer, divisor=optimizer.expected_batch_size)
    while not canaries.done:
        for inputs, classes in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), classes).backward()
            optimizer.step()
            if canaries.done:
                break


def train_shuffled(canaries):
    """Train without Poisson sampling: what `poisson_sampling=False` does."""
    train(canaries, poisson=False)


def train_half_noise(canaries):
    """Train with half of the noise that the plan names."""
    train(canaries, noise=0.5)
