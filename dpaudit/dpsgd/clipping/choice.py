"""Which route each layer takes to its gradient norms, and what it keeps for the sum."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.books import Book, GradientBook

Clipping = Literal["per_sample", "ghost", "mixed_ghost", "bk", "bk_mix_ghost", "bk_mix_opt"]
CLIPPING_MODES: tuple[Clipping, ...] = (
    "per_sample",
    "ghost",
    "mixed_ghost",
    "bk",
    "bk_mix_ghost",
    "bk_mix_opt",
)

# Rates of one core of a current server (float32 matrix products, main memory). They only order routes whose
# cost is too small to be worth a measurement, or where a measurement is not wanted.
_MULTIPLICATIONS_PER_SECOND = 5e10
_BYTES_PER_SECOND = 1e10
# Below this modelled cost a wrong choice cannot matter and a measurement would be all noise.
_WORTH_MEASURING = 2e-4
# Among routes within a quarter of the fastest the smallest book wins: memory limits the batch before time
# does.
_NEARLY_FASTEST = 1.25
_MEASURED_RECORDS = 4
# A route modelled this many times slower than the best is not worth the time of a measurement.
_HOPELESS = 6.0


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

    @property
    def elements(self) -> int:
        """Numbers held for each record."""

    def take(self, records: slice) -> Self:
        """Keep some records."""


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """A route taken, and why: `seconds` maps each candidate to its time for norms and sum, on few records."""

    route: str
    reason: Literal["only route", "mode", "2T^2 <= pd", "measured", "modelled"]
    seconds: tuple[tuple[str, float], ...] = ()


@dataclass(slots=True)
class RouteChooser:
    """Choose routes by mode; remember the choice of each layer and shape.

    Attributes:
      clipping: the mode.
      memory_budget: most bytes of per-record gradients that one layer may instantiate.
      measure: time the candidates of large layers on the first batch, on this device.
      choices: by kind and shapes of a layer, so that equal layers are timed once and treated alike.
      layers: the latest choice by parameter.
      fused: a compiler will fuse passes over data, so that one formula for the batch beats a call a record.
    """

    clipping: Clipping
    memory_budget: int
    measure: bool = True
    choices: dict[tuple[object, ...], LayerChoice] = field(default_factory=dict)
    layers: dict[str, LayerChoice] = field(default_factory=dict)
    fused: bool = False

    @property
    def two_passes(self) -> bool:
        """Whether the sums come from a second backward pass."""
        return self.clipping in ("ghost", "mixed_ghost")

    @property
    def keeps_instantiated(self) -> bool:
        """Whether instantiated gradients are kept for the sum, rather than inputs and output gradients."""
        return self.clipping == "bk_mix_opt"

    def choose(
        self,
        parameter: str,
        key: tuple[object, ...],
        book: LayerBook,
        routes_of: Callable[[LayerBook], Sequence[Route]],
        shape: torch.Size,
        batch: int,
        positions: int,
    ) -> Route:
        """Pick the route of one layer.

        Args:
          parameter: its name.
          key: kind and shapes of the layer, but for the batch.
          book: inputs and output gradients of the layer.
          routes_of: gives the candidates for a book.
          shape: of the parameter.
          batch: records in the book.
          positions: T, products that add up in one record's gradient.
        """
        routes = list(routes_of(book))
        size = batch * shape.numel() * book.inputs.element_size()
        if size > self.memory_budget:
            routes = [route for route in routes if not route.instantiates] or routes
        key = (*key, tuple(route.name for route in routes))
        if key not in self.choices:
            self.choices[key] = self._decide(routes, book, routes_of, shape, positions)
        self.layers[parameter] = self.choices[key]
        name = self.choices[key].route
        return next(route for route in routes if route.name == name)

    def _decide(
        self,
        routes: list[Route],
        book: LayerBook,
        routes_of: Callable[[LayerBook], Sequence[Route]],
        shape: torch.Size,
        positions: int,
    ) -> LayerChoice:
        if len(routes) == 1:
            return LayerChoice(routes[0].name, "only route")
        if self.clipping in ("ghost", "bk"):
            return LayerChoice(_cheapest(routes, instantiates=False).name, "mode")
        if self.clipping != "bk_mix_opt":
            # The memory rule of arXiv:2205.10683 section 4: Gram matrices against one instantiated gradient.
            ghost = 2 * positions**2 <= shape.numel()
            return LayerChoice(_cheapest(routes, instantiates=not ghost).name, "2T^2 <= pd")
        modelled = {route.name: _modelled_seconds(route, shape, positions) for route in routes}
        if not self.measure or min(modelled.values()) < _WORTH_MEASURING:
            return LayerChoice(min(modelled, key=modelled.__getitem__), "modelled", tuple(modelled.items()))
        few = book.take(slice(0, _MEASURED_RECORDS))
        names = {name for name, cost in modelled.items() if cost <= _HOPELESS * min(modelled.values())}
        candidates = [route for route in routes_of(few) if route.name in names]
        seconds = {route.name: _measured_seconds(route, few) for route in candidates}
        limit = _NEARLY_FASTEST * min(seconds.values())
        held = {route.name: shape.numel() if route.instantiates else book.elements for route in candidates}
        near = [name for name, time_taken in seconds.items() if time_taken <= limit]
        best = min(near, key=lambda name: (held[name], seconds[name]))
        return LayerChoice(best, "measured", tuple(seconds.items()))


def _cheapest(routes: Sequence[Route], *, instantiates: bool) -> Route:
    family = [route for route in routes if route.instantiates == instantiates] or list(routes)
    return min(family, key=lambda route: route.multiplications)


def _modelled_seconds(route: Route, shape: torch.Size, positions: int) -> float:
    if route.instantiates:  # written, read for the norm, read for the sum
        traffic = 3 * shape.numel() * 4 / _BYTES_PER_SECOND
        return route.multiplications / _MULTIPLICATIONS_PER_SECOND + traffic
    final = positions * shape.numel()
    return (route.multiplications + final) / _MULTIPLICATIONS_PER_SECOND


def _measured_seconds(route: Route, book: LayerBook) -> float:
    """Best of three of the norms and the sum by this route."""
    best = float("inf")
    # A thread's own time is not disturbed by what else runs; it misses the work of other threads and devices.
    alone = torch.get_num_threads() == 1 and not book.inputs.is_cuda
    clock = time.thread_time if alone else time.perf_counter
    for _ in range(3):
        _wait()
        start = clock()
        result = route.run()
        factors = result.new_ones(len(result))
        if route.instantiates:
            kept = GradientBook(result)
            kept.squared_norms()
            kept.weighted_sum(factors)
        else:
            book.weighted_sum(factors)
        _wait()
        best = min(best, clock() - start)
        if best > 0.5:
            break
    return best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
