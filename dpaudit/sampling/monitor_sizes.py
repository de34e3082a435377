"""Bets on the size of the next batch, given the sizes so far, against Binomial(N, q)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from dpaudit.sampling.tails import binomial_table, log_choices

FloatArray = npt.NDArray[np.float64]
Stored = dict[str, npt.NDArray[Any]]

# Rates bet on, over the claimed one; and strengths (in draws) with which an estimate holds on to it.
_RATIOS = np.array([0.5, 0.8, 0.95, 1.05, 1.25, 2.0])
_STRENGTHS = np.array([10.0, 1000.0])
# Sizes less (above 1) or more spread than claimed: their law is the claimed one to that power.
_POWERS = np.array([0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
# Shares of the stake on the latest size, and on the most common one.
_STAKES = np.array([0.8, 0.5])
_DIVISORS = np.array([2, 4, 8, 10, 16, 32, 64])
# Stake that is kept back from a bet which one unlucky batch would else lose whole. Bets that grow
# slowly keep less: what is kept back earns nothing.
_KEPT, _KEPT_SLOW = 0.05, 0.001

FAMILIES = (
    ("DPA102", len(_RATIOS) + len(_STRENGTHS)),
    ("DPA108", len(_POWERS)),
    ("DPA109", 2),
    ("DPA111", 1),
    ("DPA112", len(_DIVISORS)),
    ("DPA113", 1),
)
"""Rule of each family of bets, and the number of its bets, in the order of `SizeBets.log_bets`."""


class SizeBets:
    """Likelihood ratios of laws of the next size, each chosen by what came before."""

    def __init__(self, num_records: int, rate: float) -> None:
        self._records = num_records
        self._rate = rate
        self._table = binomial_table(num_records, rate)
        log_mass = np.log(self._table.mass)
        powers = _POWERS[:, None] * log_mass
        # log of (mass^power / sum of these) / mass, by power and size.
        self._spread = powers - special.logsumexp(powers, axis=1, keepdims=True) - log_mass
        multiple = self._table.values % _DIVISORS[:, None] == 0
        self._multiples = multiple @ self._table.mass
        self._empty = math.exp(num_records * math.log1p(-rate))
        self._draws = 0
        self._steps = 0
        self._last = -1
        self._largest = -1
        self._common = -1
        self._occurrences: dict[int, int] = {}

    def log_bets(self, size: int) -> FloatArray:
        """Give the logarithm of each bet's likelihood ratio at the size that came."""
        return np.concatenate(
            (self._rates(size), self._powers(size), self._atoms(size), self._capped(size), self._shapes(size))
        )

    def learn(self, size: int) -> None:
        """Take the size into account for the bets to come."""
        self._draws += size
        self._steps += 1
        self._last = size
        self._largest = max(self._largest, size)
        self._occurrences[size] = self._occurrences.get(size, 0) + 1
        if self._occurrences[size] >= self._occurrences.get(self._common, 0):
            self._common = size

    def _rates(self, size: int) -> FloatArray:
        cells = self._records * self._steps
        learned = (_STRENGTHS + self._draws) / (_STRENGTHS / self._rate + cells)
        fixed = np.minimum(_RATIOS * self._rate, (1 + self._rate) / 2)
        rates = np.concatenate((fixed, learned))
        return log_ratio(rates, self._rate, size, self._records)

    def _powers(self, size: int) -> FloatArray:
        place = size - self._table.first
        if not 0 <= place < len(self._table.mass):
            return np.full(len(_POWERS), math.log(_KEPT_SLOW))
        bets: FloatArray = np.logaddexp(
            math.log1p(-_KEPT_SLOW) + self._spread[:, place], math.log(_KEPT_SLOW)
        )
        return bets

    def _atoms(self, size: int) -> FloatArray:
        """Bet most of the stake on the latest size, and half of it on the most common one so far."""
        if self._steps == 0:
            return np.zeros(2)
        hits = np.where([size == self._last, size == self._common], -self._log_mass(size), -np.inf)
        bets: FloatArray = np.logaddexp(np.log(_STAKES) + hits, np.log1p(-_STAKES))
        return bets

    def _capped(self, size: int) -> FloatArray:
        """Bet that sizes above the largest so far are cut down to it."""
        if self._steps == 0 or size < self._largest:
            return np.zeros(1)
        if size > self._largest:
            return np.full(1, math.log(_KEPT))
        beyond = self._table.at_least_of(size)
        gain = math.log(beyond) - self._log_mass(size) if beyond > 0 else 0.0
        return np.full(1, np.logaddexp(math.log1p(-_KEPT) + gain, math.log(_KEPT)))

    def _shapes(self, size: int) -> FloatArray:
        """Bet on multiples of a number, and on sizes that are not 0."""
        chances = np.append(self._multiples, 1 - self._empty)
        hits = np.append(size % _DIVISORS == 0, size > 0)
        with np.errstate(divide="ignore"):
            gains = np.where(hits & (chances > 0), (1 - _KEPT) / chances, 0.0)
        # An event without chance is not bet on.
        return np.where(chances > 0, np.log(_KEPT + gains), 0.0)

    def _log_mass(self, size: int) -> float:
        place = size - self._table.first
        if 0 <= place < len(self._table.mass):
            return math.log(self._table.mass[place])
        missed = (self._records - size) * math.log1p(-self._rate)
        return log_choices(self._records, size) + size * math.log(self._rate) + missed

    def stored(self) -> Stored:
        """Give what was learned, as arrays."""
        return {
            "size_totals": np.array(
                [self._draws, self._steps, self._last, self._largest, self._common], np.int64
            ),
            "size_values": np.array(list(self._occurrences), np.int64),
            "size_occurrences": np.array(list(self._occurrences.values()), np.int64),
        }

    def restore(self, stored: Stored) -> None:
        """Go on from what `stored` gave."""
        self._draws, self._steps, self._last, self._largest, self._common = stored["size_totals"].tolist()
        values, occurrences = stored["size_values"].tolist(), stored["size_occurrences"].tolist()
        self._occurrences = dict(zip(values, occurrences, strict=True))


def log_ratio(rates: FloatArray, rate: float, drawn: Any, trials: Any) -> FloatArray:
    """Give the log-likelihood ratio of `drawn` successes in `trials` Bernoulli trials at two rates.

    Args:
      rates: of the bet, each in (0, 1).
      rate: of the null, in (0, 1).
      drawn: successes, 0..trials.
      trials: of which `drawn` succeeded.
    """
    missed = (trials - drawn) * np.log1p((rate - rates) / (1 - rate))
    ratio: FloatArray = drawn * np.log(rates / rate) + missed
    return ratio
