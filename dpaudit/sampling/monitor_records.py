"""Bets on which records come next, given when and how often each came before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.sampling.monitor_sizes import FloatArray, Stored, log_ratio

IntArray = npt.NDArray[np.integer[Any]]
# Rate at which records of the present pass come again, over the claimed one.
_RETURNS = np.array([0.02, 0.3, 0.7])
# Stake kept back from the bets on passes, which one batch across their border would else lose whole.
_KEPT = 0.02
# A batch ends the pass that was taken for the present one when it holds so many records of it, and
# at least this share of those that Poisson sampling would give.
_RETURNED, _SHARE = 3, 0.5
# Ages (steps since the latest use) up to which single steps are told apart, and limits of the
# further classes of ages in epochs (1 / q steps).
_SINGLE_AGES = 2
_AGE_LIMITS = (0.125, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# Steps that are remembered at most: 8 MB.
_LONGEST = 1 << 20
# Draws with which the estimate of an age class's rate holds on to the claimed rate.
_STRENGTH = 4.0
# Rates of records bet to be gamma distributed; the squared coefficient of variation is 1 over these.
_SHAPES = np.array([1.0, 10.0, 100.0])


def families(rate: float) -> tuple[tuple[str, int], ...]:
    """Name the rule of each family of bets with the number of its bets, in the order of `log_bets`."""
    ages = len(_age_limits(rate)) - 1
    return (("DPA104", len(_RETURNS)), ("DPA103", 1), ("DPA105", ages - 1), ("DPA115", len(_SHAPES)))


class RecordBets:
    """Likelihood ratios of laws under which records come independently, at rates that the past sets.

    16 bytes a record, and 8 for each of the latest 2 / q steps.
    """

    def __init__(self, num_records: int, rate: float) -> None:
        self._rate = rate
        self._steps = 0
        self._last = np.full(num_records, -1, np.int32)
        self._counts = np.zeros(num_records, np.int32)
        # Pass in which each record was seen latest, the present pass, and the records seen in it.
        self._pass_of = np.full(num_records, -1, np.int32)
        self._pass = 0
        self._seen = 0
        # Number of records by their latest step (a ring), by age class, and by count.
        self._limits = _age_limits(rate)
        self._users = np.zeros(int(self._limits[-1]) + 1, np.int64)
        self._exposed = np.zeros(len(self._limits) - 1, np.int64)
        self._class_draws = np.zeros(len(self._exposed))
        self._class_cells = np.zeros(len(self._exposed))
        self._with_count = np.array([num_records], np.int64)

    def bet_and_learn(self, batch: IntArray) -> FloatArray:
        """Give the logarithm of each bet's likelihood ratio at the batch that came, and learn from it.

        Args:
          batch: distinct record numbers, shape (size,).
        """
        bets = np.concatenate((self._passes(batch), self._ages(batch), self._unequal(batch)))
        self._last[batch] = self._steps
        self._counts[batch] += 1
        self._steps += 1
        return bets

    def start_pass(self) -> None:
        """Take it from the loader that it begins a new pass over the data."""
        self._pass += 1
        self._seen = 0

    def start_run(self) -> None:
        """Forget when records came: a new run owes nothing to the one before."""
        self.start_pass()
        self._users[:] = 0
        self._exposed[:] = 0
        self._last[:] = -1

    def _passes(self, batch: IntArray) -> FloatArray:
        """Bet that records seen in this pass are less likely to come, and learn where it ends."""
        records, rate, size = len(self._last), self._rate, len(batch)
        known = self._pass_of[batch] == self._pass
        again, seen, unseen = int(np.count_nonzero(known)), self._seen, records - self._seen
        bets = np.zeros(len(_RETURNS))
        ends = unseen < 0.9 * records * rate
        if seen and not ends:
            low = _RETURNS * rate
            # The others make up for it, so that the expected size stays as claimed.
            most = max(0.95, (1 + rate) / 2)
            high = np.minimum(rate * (records - _RETURNS * seen) / unseen, most)
            drawn, trials = np.array([[again], [size - again]]), np.array([[seen], [unseen]])
            bets = log_ratio(np.stack((low, high)), rate, drawn, trials).sum(axis=0)
            bets = np.logaddexp(bets + math.log1p(-_KEPT), math.log(_KEPT))
        if ends or size - again == unseen:  # what came again belongs to the next pass
            fresh = batch[known]
        elif again >= _RETURNED and again * records >= _SHARE * size * seen:
            fresh = batch
        else:
            self._pass_of[batch] = self._pass
            self._seen += size - again
            return bets
        self.start_pass()
        self._pass_of[fresh] = self._pass
        self._seen = len(fresh)
        return bets

    def _ages(self, batch: IntArray) -> FloatArray:
        """Bet on each class of ages by itself, at the rate that it had so far."""
        step, ring, limits = self._steps, len(self._users), self._limits
        self._users[step % ring] = 0  # those of `ring` steps ago are past the last limit
        self._exposed += self._users[(step - limits[:-1]) % ring] * (limits[:-1] <= step)
        self._exposed -= self._users[(step - limits[1:]) % ring] * (limits[1:] <= step)
        last = self._last[batch]
        ages = step - last[last >= 0]
        classes = np.searchsorted(limits, ages, "right") - 1
        inside = classes < len(self._exposed)
        drawn = np.bincount(classes[inside], minlength=len(self._exposed))
        rates = (_STRENGTH + self._class_draws) / (_STRENGTH / self._rate + self._class_cells)
        bets = log_ratio(rates, self._rate, drawn, self._exposed)
        self._class_draws += drawn
        self._class_cells += self._exposed
        self._exposed -= drawn
        np.subtract.at(self._users, (step - ages[inside]) % ring, 1)
        self._users[step % ring] = len(batch)
        return bets

    def _unequal(self, batch: IntArray) -> FloatArray:
        """Bet that records keep rates of their own, each estimated from its count."""
        taken = np.bincount(self._counts[batch], minlength=len(self._with_count))
        values = np.flatnonzero(self._with_count)
        rates = (values + _SHAPES[:, None]) / (self._steps + _SHAPES[:, None] / self._rate)
        bets: FloatArray = log_ratio(rates, self._rate, taken[values], self._with_count[values]).sum(axis=1)
        if taken[-1]:
            self._with_count = np.append(self._with_count, 0)
        self._with_count[: len(taken)] -= taken
        self._with_count[1:] += taken[: len(self._with_count) - 1]
        return bets

    def stored(self) -> Stored:
        """Give what was learned, as arrays."""
        return {
            "record_last": self._last.copy(),
            "record_counts": self._counts.copy(),
            "record_passes": self._pass_of.copy(),
            "record_totals": np.array([self._steps, self._pass, self._seen], np.int64),
            "age_users": self._users.copy(),
            "age_exposed": self._exposed.copy(),
            "age_learned": np.array([self._class_draws, self._class_cells]),
            "records_with_count": self._with_count.copy(),
        }

    def restore(self, stored: Stored) -> None:
        """Go on from what `stored` gave."""
        self._last = stored["record_last"].copy()
        self._counts = stored["record_counts"].copy()
        self._pass_of = stored["record_passes"].copy()
        self._steps, self._pass, self._seen = stored["record_totals"].tolist()
        self._users = stored["age_users"].copy()
        self._exposed = stored["age_exposed"].copy()
        self._class_draws, self._class_cells = stored["age_learned"].copy()
        self._with_count = stored["records_with_count"].copy()


def _age_limits(rate: float) -> npt.NDArray[np.int64]:
    """Give the first age of each class and, last, the first age past all; shape (classes + 1,)."""
    single = np.arange(1, _SINGLE_AGES + 2)
    steps = np.ceil(np.minimum(np.array(_AGE_LIMITS) / rate, _LONGEST)).astype(np.int64)
    limits: npt.NDArray[np.int64] = np.union1d(single, steps[steps > single[-1]])
    return limits
