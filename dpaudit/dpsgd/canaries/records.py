"""Input canaries: ordinary records that a model would hardly train on, each included by a fair coin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dpaudit.dpsgd.canaries.data import LabelledData

InputKind = Literal["mislabelled", "blank", "out_of_distribution", "crafted", "natural"]
INPUT_KINDS: tuple[InputKind, ...] = get_args(InputKind)

# Strength of a crafted input's features, in the largest value of the data: its gradient is clipped at once,
# and along directions that hardly anybody else's gradient has.
_LOUD = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InputCanaries:
    """Candidates for the training set; those that coins include are records like any other."""

    features: npt.NDArray[np.float32]
    """Shape (candidates, ...)."""
    labels: npt.NDArray[np.int64]
    kind: npt.NDArray[np.str_]
    """Of `INPUT_KINDS`, shape (candidates,)."""
    included: npt.NDArray[np.bool_]
    """Fair coins, shape (candidates,)."""


def make_input_canaries(
    data: LabelledData, count: int, kinds: tuple[InputKind, ...], rng: np.random.Generator
) -> tuple[LabelledData, InputCanaries]:
    """Make candidates of each kind, and toss their coins last.

    - mislabelled: a record of the data with another class;
    - blank: all features zero, one for each class at most;
    - out_of_distribution: every feature at one end of its range, by coins;
    - crafted: only features that are the least used by the data, ten times louder than anything in it;
    - natural: a record of the data, taken out of it.

    Args:
      data: ordinary records.
      count: candidates of each kind.
      kinds: which to make.
      rng: decides everything.

    Returns:
      The data without the records that were taken out, and the candidates.
    """
    order = rng.permutation(len(data.labels))
    features: list[npt.NDArray[np.float32]] = [np.zeros((0, *data.features.shape[1:]), np.float32)]
    labels: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    names: list[str] = []
    taken = 0
    for kind in kinds:
        if kind == "natural":
            picked, taken = order[:count], min(count, len(order) // 2)
            picked = picked[:taken]
            made = data.features[picked], data.labels[picked]
        else:
            made = _make(kind, data, count, order, rng)
        features.append(made[0].astype(np.float32))
        labels.append(made[1].astype(np.int64))
        names += [kind] * len(made[1])
    rest = np.sort(order[taken:])
    canaries = InputCanaries(
        features=np.concatenate(features),
        labels=np.concatenate(labels),
        kind=np.array(names, dtype=np.str_),
        included=rng.random(len(names)) < 0.5,
    )
    return LabelledData(data.features[rest], data.labels[rest]), canaries


def _make(
    kind: InputKind,
    data: LabelledData,
    count: int,
    order: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    shape, classes = data.features.shape[1:], data.classes
    low, high = float(data.features.min()), float(data.features.max())
    any_class = rng.integers(0, classes, count)
    if kind == "mislabelled":
        picked = order[len(order) - min(count, len(order) // 2) :]
        return data.features[picked], (data.labels[picked] + rng.integers(1, classes, len(picked))) % classes
    if kind == "blank":
        count = min(count, classes)
        return np.zeros((count, *shape), np.float32), rng.permutation(classes)[:count]
    if kind == "out_of_distribution":
        coins = rng.random((count, *shape)) < 0.5
        return np.where(coins, np.float32(low), np.float32(high)), any_class
    energy = np.square(data.features.reshape(len(data.labels), -1)).mean(axis=0)
    quiet = np.argsort(energy, kind="stable")[: max(1, min(len(energy), -(-count // classes)))]
    crafted = np.zeros((count, energy.size), np.float32)
    crafted[np.arange(count), quiet[np.arange(count) // classes % len(quiet)]] = _LOUD * max(abs(low), high)
    return crafted.reshape(count, *shape), np.arange(count) % classes
