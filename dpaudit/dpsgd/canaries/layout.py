"""The layout of canaries: where each lives, how large its gradient is, and whether a coin includes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpaudit.dpsgd.canaries.sites import Site

REGISTER = "register.weight"
MODEL = "model."
"""What the names of a model's parameters begin with once the model is attached."""
# Gradient norms before clipping, in clip norms: all of them clipped, by factors that differ widely, so that
# a rule which clips only some of them is seen.
_LEAST_SCALE, _LARGEST_SCALE = 10.0, 1e3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanaryLayout:
    """Gradient canaries, each alone at one coordinate of one parameter tensor."""

    tensors: tuple[str, ...]
    """Names of the tensors, in the model with the register attached."""
    tensor: npt.NDArray[np.int64]
    """Index into `tensors`, shape (canaries,)."""
    coordinate: npt.NDArray[np.int64]
    """Flat index into the tensor, shape (canaries,); no two canaries share one."""
    scale: npt.NDArray[np.float64]
    """Norm of the gradient before clipping, in clip norms, shape (canaries,)."""
    included: npt.NDArray[np.bool_]
    """Which canaries the training set holds, shape (canaries,)."""
    tossed: npt.NDArray[np.bool_]
    """Whether a fair coin decided that, shape (canaries,); else the coordinate only watches the noise."""

    @property
    def canaries(self) -> int:
        """Number of canaries, included or not."""
        return len(self.tensor)

    def in_tensor(self, name: str) -> npt.NDArray[np.bool_]:
        """Mark the canaries of one tensor."""
        return np.asarray(self.tensor == self.tensors.index(name))


def register_shape(canaries: int) -> tuple[int, int]:
    """Give outputs and inputs of the smallest square-like register with room for the canaries."""
    inputs = max(1, int(np.ceil(np.sqrt(canaries))))
    return max(1, -(-canaries // inputs)), inputs


def lay_out(
    sites: Sequence[Site],
    *,
    registers: int,
    per_tensor: int,
    rng: np.random.Generator,
    watched: Mapping[str, int] | None = None,
) -> CanaryLayout:
    """Spread canaries over the register and over every tensor, and toss their coins.

    Coordinates and scales are drawn first; the coins come last, when nothing else is left to choose.

    Args:
      sites: tensors of the model that canaries can reach.
      registers: canaries in the register.
      per_tensor: canaries in each tensor, or as many as it has coordinates.
      rng: decides coordinates, scales and inclusion.
      watched: sizes of tensors that no canary reaches, by name; their noise is watched all the same.

    Raises:
      ValueError: no canary at all.
    """
    sizes = {site.tensor: site.coordinates for site in sites}
    names, tensor, coordinate = [REGISTER], [np.zeros(registers, np.int64)], [np.arange(registers)]
    for name, size in (*sizes.items(), *(watched or {}).items()):
        count = min(per_tensor, size)
        tensor.append(np.full(count, len(names)))
        coordinate.append(rng.choice(size, count, replace=False))
        names.append(MODEL + name)
    which = np.concatenate(tensor).astype(np.int64)
    if len(which) == 0:
        raise ValueError("no canaries: both registers and per_tensor are 0")
    scale = np.exp(rng.uniform(np.log(_LEAST_SCALE), np.log(_LARGEST_SCALE), len(which)))
    tossed = which <= len(sizes)
    return CanaryLayout(
        tensors=tuple(names),
        tensor=which,
        coordinate=np.concatenate(coordinate).astype(np.int64),
        scale=scale,
        included=(rng.random(len(which)) < 0.5) & tossed,
        tossed=tossed,
    )
