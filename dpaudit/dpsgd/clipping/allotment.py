"""Share out memory among layers: the fastest routes whose books together stay within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One route of a layer, measured.

    Attributes:
      route: its name.
      seconds: for norms and sum of one record.
      held: bytes kept for each record from the layer's backward pass until its sum.
    """

    route: str
    seconds: float
    held: int


def allot(
    layers: Mapping[Key, Sequence[Candidate]], uses: Mapping[Key, int], budget: float
) -> dict[Key, Candidate]:
    """Choose a route for each kind of layer.

    Every kind starts with its smallest book. Then the exchange that saves the most time for each further
    byte is made, as long as the books of all layers fit the budget. (The greedy answer to a knapsack: at
    most one exchange away from the best.)

    Args:
      layers: the candidates of each kind of layer.
      uses: the number of layers of that kind.
      budget: bytes for each record; where even the smallest books exceed it, they are taken.
    """
    chosen = {key: min(some, key=lambda one: (one.held, one.seconds)) for key, some in layers.items()}
    spare = budget - sum(uses.get(key, 0) * one.held for key, one in chosen.items())
    while True:
        exchanges = [
            (_rate(chosen[key], one), key, one)
            for key, some in layers.items()
            for one in some
            if one.seconds < chosen[key].seconds and uses.get(key, 0) * (one.held - chosen[key].held) <= spare
        ]
        if not exchanges:
            return chosen
        _, key, one = max(exchanges, key=lambda exchange: exchange[0])
        spare -= uses.get(key, 0) * (one.held - chosen[key].held)
        chosen[key] = one


def _rate(before: Candidate, after: Candidate) -> float:
    """Seconds saved for each further byte."""
    return (before.seconds - after.seconds) / max(after.held - before.held, 1)
