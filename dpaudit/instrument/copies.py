"""Tell equal records apart, where whole passes over a data set show how many there are of each."""

from __future__ import annotations

import itertools

import numpy as np

from dpaudit.instrument.index_log import IntArray

_SEED = 0


def tell_copies(
    numbers: IntArray, starts: IntArray, num_records: int | None
) -> tuple[IntArray, IntArray] | None:
    """Give each of several equal records a number of its own.

    Two passes or more that give exactly the same N records, equal ones equally often, go through the
    whole data set; Poisson draws do that with no chance worth naming. Which of several equal records
    comes first in a pass is then chosen at random, as a shuffle does, so that no order is made up.

    Args:
      numbers: of distinct contents, in the order in which they came; shape (draws,).
      starts: of the passes in `numbers`, rising, the first 0.
      num_records: N. None: a record that is read twice looks like two that are equal.

    Returns:
      Record numbers, shape (draws,), and the content of each record, shape (records,). None where passes
      differ, or nothing came twice in one.
    """
    limits = [*starts.tolist(), len(numbers)]
    kinds = int(numbers.max(initial=-1)) + 1
    counts = [np.bincount(numbers[a:b], minlength=kinds) for a, b in itertools.pairwise(limits)]
    if len(counts) < 2 or num_records != counts[0].sum() or counts[0].max(initial=0) < 2:
        return None
    alike = all(np.array_equal(counts[0], other) for other in counts[1:-1])
    last = np.all(counts[-1] <= counts[0]) if len(counts) > 2 else np.array_equal(counts[0], counts[1])
    if not (alike and last):
        return None
    rng = np.random.default_rng(_SEED)
    first = np.concatenate(([0], np.cumsum(counts[0])[:-1]))
    told = np.empty_like(numbers)
    for begin, end in itertools.pairwise(limits):
        part = numbers[begin:end]
        order = np.lexsort((rng.random(len(part)), part))
        held = part[order]
        place: IntArray = np.arange(len(part)) - np.searchsorted(held, held)
        if end == limits[-1]:  # a pass that was cut short holds any of the copies
            place = _any_of(place, held, counts[0], rng)
        told[begin:end][order] = first[held] + place
    return told, np.repeat(np.arange(kinds), counts[0])


def _any_of(place: IntArray, held: IntArray, copies: IntArray, rng: np.random.Generator) -> IntArray:
    """Replace places 0, 1 ... of equal records by a random choice among all their copies."""
    chosen = place.copy()
    for kind in np.unique(held[copies[held] > 1]):
        rows = np.flatnonzero(held == kind)
        chosen[rows] = rng.permutation(int(copies[kind]))[: len(rows)]
    return chosen
