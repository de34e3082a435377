"""The ways to a layer's norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor

from dpaudit.dpsgd.clipping.books import Book


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a layer's norms.

    Attributes:
      name: as printed by `explain`.
      instantiates: `run` gives per-record gradients (batch, *shape), else squared norms (batch,).
      run: computes it.
      multiplications: modelled, for the whole batch, norms alone.
    """

    name: str
    instantiates: bool
    run: Callable[[], Tensor]
    multiplications: float


class LayerBook(Book, Protocol):
    """A book of a layer with several routes."""

    @property
    def inputs(self) -> Tensor:
        """Inputs of the layer, (batch, ...)."""

    def take(self, records: slice) -> Self:
        """Keep some records."""
