"""Models of canary runs: two small ones for images, or any that a file builds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from dpaudit.errors import DpauditError

_HIDDEN = 64
_CHANNELS = (8, 16)


def build_model(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    *,
    seed: int,
    build: Callable[[], nn.Module] | None = None,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a model with seeded parameters, and say what shape of features it takes.

    Args:
      name: "mlp", "cnn" or, with `build`, the name of that.
      shape: of one record's features.
      classes: number of classes.
      seed: of the initial parameters; the state of the global generator is left as it was.
      build: makes the user's own model, which takes features as they are.

    Raises:
      DpauditError: an unknown name, or features that the model cannot take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if build is not None:
            return build(), shape
        size = math.prod(shape)
        if name == "mlp":
            return _mlp(size, classes), (size,)
        if name == "cnn":
            side = math.isqrt(size)
            if side * side != size or side < 4:
                raise DpauditError(f"a cnn needs square images, not features of shape {shape}", "Use mlp.")
            return _cnn(side, classes), (1, side, side)
    raise DpauditError(f"unknown model {name!r}", 'Known: mlp, cnn, or "file.py:build".')


def _mlp(features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, classes))


def _cnn(side: int, classes: int) -> nn.Module:
    first, second = _CHANNELS
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(first, second, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * (side // 2) ** 2, classes),
    )
