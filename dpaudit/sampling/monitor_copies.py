"""A bet that the next batch is one that came before: a fixed seed, a resumed loader, kept batches."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.sampling.monitor_sizes import FloatArray, Stored
from dpaudit.sampling.tails import log_choices

IntArray = npt.NDArray[np.integer[Any]]
FAMILIES = (("DPA107", 1),)
# Steps that are remembered: the first ones (a run that begins again) and the latest (an epoch).
_FIRST = _LATEST = 1 << 16
# Two different batches are taken to share their 64-bit fingerprint with this probability.
_COLLISION = 2.0**-64
# Batches so few that a copy of one has a chance above this are not bet on.
_LARGEST_CHANCE = 0.1


class CopyBet:
    """Likelihood ratio of a law that spends half its mass on copies of remembered batches."""

    def __init__(self, num_records: int) -> None:
        self._records = num_records
        self._sizes: dict[int, int] = {}
        """Size of each remembered batch by its fingerprint."""
        self._latest: deque[int] = deque()
        self._of_size: dict[int, int] = {}
        """Remembered batches by their size."""

    def bet_and_learn(self, batch: IntArray) -> FloatArray:
        """Give the logarithm of the likelihood ratio at the batch that came, and remember the batch.

        Args:
          batch: distinct record numbers, shape (size,), in any order.
        """
        mark, size = fingerprint(batch), len(batch)
        known = mark in self._sizes
        equal = self._of_size.get(size, 0)
        # Given its size, the batch seems to equal one of these with at most this probability (union bound).
        chance = equal * math.exp(-log_choices(self._records, size)) + len(self._sizes) * _COLLISION
        bet = 0.0
        if equal and chance <= _LARGEST_CHANCE:
            bet = math.log(0.5 + 0.5 / chance) if known else math.log(0.5)
        if not known:
            self._remember(mark, size)
        return np.array([bet])

    def _remember(self, mark: int, size: int) -> None:
        if len(self._sizes) >= _FIRST:
            self._latest.append(mark)
            if len(self._latest) > _LATEST:
                self._of_size[self._sizes.pop(self._latest.popleft())] -= 1
        self._sizes[mark] = size
        self._of_size[size] = self._of_size.get(size, 0) + 1

    def stored(self) -> Stored:
        """Give what is remembered, as arrays."""
        return {
            "copy_marks": np.array(list(self._sizes), np.uint64),
            "copy_sizes": np.array(list(self._sizes.values()), np.int64),
            "copy_latest": np.array(self._latest, np.uint64),
        }

    def restore(self, stored: Stored) -> None:
        """Go on from what `stored` gave."""
        marks, sizes = stored["copy_marks"].tolist(), stored["copy_sizes"].tolist()
        self._sizes = dict(zip(marks, sizes, strict=True))
        self._latest = deque(stored["copy_latest"].tolist())
        values, occurrences = np.unique(stored["copy_sizes"], return_counts=True)
        self._of_size = dict(zip(values.tolist(), occurrences.tolist(), strict=True))


def fingerprint(batch: IntArray) -> int:
    """Give 64 bits that do not depend on the order: the sum of the scrambled record numbers.

    The scrambling is the finaliser of SplitMix64, a bijection of 64 bits.
    """
    key = batch.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    key ^= key >> np.uint64(31)
    return (int(key.sum(dtype=np.uint64)) + len(batch)) % (1 << 64)
