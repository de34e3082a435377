"""Small models and data sets to start with: nothing to write, nothing to download."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dpaudit.errors import DpauditError, nearest_name

_Made = TypeVar("_Made")

# Middle and half width of each column's public range or round figures near them, from the codebook of the
# RAND health insurance study and not from the records: log coinsurance, individual deductible, log
# participation incentive, medical deductible, physical limitation, chronic diseases, and three flags.
_VISITS_MIDDLES = (2.5, 0.5, 4.0, 4.0, 0.5, 10.0, 0.5, 0.5, 0.5)
_VISITS_WIDTHS = (2.5, 0.5, 4.0, 4.0, 0.5, 10.0, 0.5, 0.5, 0.5)
_VISITS_LIMITS = (1, 3, 6)  # classes: no visit in the year, 1-2, 3-5, 6 or more


@dataclass(frozen=True, slots=True, eq=False)
class PackagedData:
    """Inputs float32 (records, *shape), targets int64 (records,), split once for all at random."""

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: int


def packaged_data(name: str) -> PackagedData:
    """Load a data set that an installed package ships.

    Args:
      name: "digits", 1,797 images of 8 x 8 of handwritten digits (scikit-learn), or "doctor_visits", 20,190
        person-years of the RAND health insurance study (statsmodels): nine numbers each, to tell how often
        somebody saw a doctor, in four classes. Hard: a third is guessed right without looking, and no
        method known to us gets beyond 43 %.

    Raises:
      DpauditError: an unknown name, or the package is not installed.
    """
    inputs, targets, classes = _look_up(name, _DATA, "data set")()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    return PackagedData(inputs[train], targets[train], inputs[test], targets[test], classes)


def packaged_model(
    name: str, shape: torch.Size | None, classes: int | None, *, width: int, depth: int
) -> nn.Module:
    """Build a model for inputs of a shape.

    Args:
      name: "mlp", "cnn" (images: channels, height, width) or "transformer" (the last but one dimension is
        the sequence).
      shape: of one record; None where it is not known.
      classes: outputs; likewise.
      width: of hidden layers.
      depth: number of them.

    Raises:
      DpauditError: an unknown name, or a shape that is not known or does not fit.
    """
    build = _look_up(name, _MODELS, "model")
    if shape is None or classes is None:
        raise DpauditError(
            f"model {name!r} needs tensors and the number of classes",
            "Give the data as tensors and say classes = ... in [model]: read off the targets it would "
            "depend on private data.",
        )
    return build(shape, classes, width, depth)


def _digits() -> tuple[Tensor, Tensor, int]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DpauditError("the digits come with scikit-learn", "pip install scikit-learn") from error
    digits = load_digits()
    inputs = torch.tensor(digits.data, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    return inputs, torch.tensor(digits.target, dtype=torch.int64), 10


def _doctor_visits() -> tuple[Tensor, Tensor, int]:
    from statsmodels.datasets import randhie

    table = randhie.load_pandas().data
    inputs = torch.tensor(table.drop(columns="mdvis").to_numpy(), dtype=torch.float32)
    targets = np.digitize(table["mdvis"].to_numpy(), _VISITS_LIMITS)
    inputs = (inputs - torch.tensor(_VISITS_MIDDLES)) / torch.tensor(_VISITS_WIDTHS)
    return inputs, torch.tensor(targets, dtype=torch.int64), 4


def _mlp(shape: torch.Size, classes: int, width: int, depth: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    size = shape.numel()
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.Tanh()]
        size = width
    return nn.Sequential(*layers, nn.Linear(size, classes))


def _cnn(shape: torch.Size, classes: int, width: int, depth: int) -> nn.Module:
    if len(shape) != 3:
        raise DpauditError(f"model 'cnn' takes images (channels, height, width), not {tuple(shape)}")
    layers: list[nn.Module] = []
    channels = shape[0]
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(1, width), nn.Tanh()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, classes))


class _Transformer(nn.Module):
    def __init__(self, length: int, features: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.places = nn.Parameter(torch.randn(1, length, width) * 0.02)
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, 1, 2 * width, 0.0, batch_first=True, norm_first=True)
                for _ in range(depth)
            )
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(2) if x.dim() == 2 else x.movedim(-2, 1).flatten(2)  # (batch, length, features)
        outputs: Tensor = self.head(self.layers(self.embed(x) + self.places).mean(1))
        return outputs


def _transformer(shape: torch.Size, classes: int, width: int, depth: int) -> nn.Module:
    length = shape[-2] if len(shape) > 1 else shape[0]
    return _Transformer(length, shape.numel() // length, classes, width, depth)


def _look_up(name: str, known: dict[str, Callable[..., _Made]], what: str) -> Callable[..., _Made]:
    if name not in known:
        hint = nearest_name(name, known) or f"Known: {', '.join(sorted(known))}."
        raise DpauditError(f"no packaged {what} is called {name!r}", hint)
    return known[name]


_DATA: dict[str, Callable[[], tuple[Tensor, Tensor, int]]] = {
    "digits": _digits,
    "doctor_visits": _doctor_visits,
}
_MODELS: dict[str, Callable[[torch.Size, int, int, int], nn.Module]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "transformer": _transformer,
}
