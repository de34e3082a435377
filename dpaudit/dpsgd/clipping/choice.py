"""Which route each layer takes to its gradient norms, and what it keeps for the sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.allotment import Candidate, allot
from dpaudit.dpsgd.clipping.processor import recording
from dpaudit.dpsgd.clipping.products import Ways, first_way
from dpaudit.dpsgd.clipping.route_costs import best_seconds, measured_seconds, modelled_seconds
from dpaudit.dpsgd.clipping.routes import LayerBook, Route

Clipping = Literal["per_sample", "ghost", "mixed_ghost", "bk", "bk_mix_ghost", "bk_mix_opt"]
CLIPPING_MODES: tuple[Clipping, ...] = (
    "per_sample",
    "ghost",
    "mixed_ghost",
    "bk",
    "bk_mix_ghost",
    "bk_mix_opt",
)

# Below this modelled cost a wrong choice cannot matter and a measurement would be all noise.
_WORTH_MEASURING = 2e-4
# Measured on this many records, so that no candidate needs much memory.
_MEASURED_RECORDS = 4
# A route modelled this many times slower than the best is not worth the time of a measurement.
_HOPELESS = 6.0
# Routes are chosen anew for batches this much larger than those that they were chosen for.
_GROWN = 1.25


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """A route taken, and why: `seconds` maps each candidate to its time for norms and sum, for one record."""

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
      candidates: what was measured, by kind and shapes.
      layers: the latest choice by parameter.
      fused: a compiler will fuse passes over data, so that one formula for the batch beats a call a record.
    """

    clipping: Clipping
    memory_budget: int
    measure: bool = True
    choices: dict[tuple[object, ...], LayerChoice] = field(default_factory=dict)
    candidates: dict[tuple[object, ...], tuple[Candidate, ...]] = field(default_factory=dict)
    layers: dict[str, LayerChoice] = field(default_factory=dict)
    fused: bool = False
    _keys: dict[str, tuple[object, ...]] = field(default_factory=dict)
    _settled: int = 0

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
            self.choices[key] = self._decide(key, routes, book, routes_of, shape, positions)
        self.layers[parameter], self._keys[parameter] = self.choices[key], key
        name = self.choices[key].route
        return next(route for route in routes if route.name == name)

    def fastest(self, key: tuple[object, ...], ways: Ways) -> Tensor:
        """Compute one thing by the fastest of several ways, each timed when a key comes for the first time.

        Where nothing is to be measured, or the fastest is not at hand any more, the first way is taken.

        Args:
          key: what is computed, and on which shapes.
          ways: by name.
        """
        if len(ways) < 2 or not self.measure or not self.keeps_instantiated:
            return first_way(key, ways)
        if key not in self.choices:
            if recording():
                return first_way(key, ways)
            seconds = {name: best_seconds(way) for name, way in ways.items()}
            quickest = min(seconds, key=seconds.__getitem__)
            self.choices[key] = LayerChoice(quickest, "measured", tuple(seconds.items()))
        way = ways.get(self.choices[key].route)
        return first_way(key, ways) if way is None else way()

    def settle(self, batch: int, budget: int) -> None:
        """After a batch, choose among measured routes for all layers together.

        Each layer has taken its smallest book so far. The budget is what the non-private step would hold at
        its peak anyway: books within it cost no memory.

        Args:
          batch: records in the batch.
          budget: bytes for the books of all layers.
        """
        if not self.candidates or batch <= _GROWN * self._settled:
            return
        self._settled = batch
        uses = Counter(self._keys.values())
        for key, best in allot(self.candidates, uses, budget / batch).items():
            seconds = tuple((one.route, one.seconds) for one in self.candidates[key])
            self.choices[key] = LayerChoice(best.route, "measured", seconds)
        self.layers.update({name: self.choices[key] for name, key in self._keys.items()})

    def _decide(
        self,
        key: tuple[object, ...],
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
        batch = len(book.inputs)
        modelled = {route.name: modelled_seconds(route, shape, positions, batch) for route in routes}
        if not self.measure or batch * min(modelled.values()) < _WORTH_MEASURING:
            return LayerChoice(min(modelled, key=modelled.__getitem__), "modelled", tuple(modelled.items()))
        few = book.take(slice(0, _MEASURED_RECORDS))
        names = {name for name, cost in modelled.items() if cost <= _HOPELESS * min(modelled.values())}
        size = book.inputs.element_size()
        self.candidates[key] = tuple(
            Candidate(
                route.name,
                measured_seconds(route, few) / len(few.inputs),
                size * (shape.numel() if route.instantiates else book.size // batch),
            )
            for route in routes_of(few)
            if route.name in names
        )
        self._settled = 0
        least = min(self.candidates[key], key=lambda one: (one.held, one.seconds))
        return LayerChoice(least.route, "measured")


def _cheapest(routes: Sequence[Route], *, instantiates: bool) -> Route:
    family = [route for route in routes if route.instantiates == instantiates] or list(routes)
    return min(family, key=lambda route: route.multiplications)
