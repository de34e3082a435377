"""P-values that are exact, or proven to be no smaller than exact ones.

Nothing here is a normal approximation: on small expected counts those accuse honest samplers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
# Mass left out of a window of binomial probabilities, relative to the largest one.
_NEGLIGIBLE = 1e-25


def binomial_at_least(count: float, trials: float, rate: float) -> float:
    """Give P(X >= count) for X ~ Binomial(trials, rate)."""
    if count <= 0:
        return 1.0
    return 0.0 if count > trials else float(special.betainc(count, trials - count + 1, rate))


def binomial_at_most(count: float, trials: float, rate: float) -> float:
    """Give P(X <= count) for X ~ Binomial(trials, rate)."""
    if count < 0:
        return 0.0
    return 1.0 if count >= trials else float(special.betaincc(count + 1, trials - count, rate))


def log_choices(total: int, chosen: int) -> float:
    """Give the logarithm of the binomial coefficient."""
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def two_sided(lower: float, upper: float) -> float:
    """Join the p-values of both sides: twice the smaller one (Bonferroni)."""
    return min(1.0, 2.0 * min(lower, upper))


def binomial_two_sided(count: float, trials: float, rate: float) -> float:
    """Give the exact two-sided p-value of a binomial count."""
    return two_sided(binomial_at_most(count, trials, rate), binomial_at_least(count, trials, rate))


def chi_squared_two_sided(squares: float, degrees: float) -> float:
    """Give the two-sided p-value of a sum of `degrees` squared standard normal scores."""
    if degrees <= 0:
        return 1.0
    return two_sided(float(special.chdtr(degrees, squares)), float(special.chdtrc(degrees, squares)))


def normal_two_sided(score: float) -> float:
    """Give the two-sided p-value of one standard normal score."""
    return min(1.0, 2.0 * float(special.ndtr(-abs(score))))


@dataclass(frozen=True, slots=True)
class BernoulliSum:
    """A count that is a sum of independent Bernoulli variables under the null, given what is fixed.

    Of their probabilities only the sum (`mean`) and the number (`trials`) are needed.
    """

    count: float
    mean: float
    trials: float

    def p_value(self) -> float:
        """Bound the two-sided p-value from above.

        With c <= mean - 1, P(sum <= c) is at most that of Binomial(trials, mean / trials), and
        with c >= mean + 1 so is P(sum >= c): the binomial is the most spread of all sums with
        this mean (Hoeffding, Annals of Mathematical Statistics 27 (1956) 713, theorem 4).
        """
        if self.trials <= 0 or self.mean <= 0:
            return 1.0
        rate = min(self.mean / self.trials, 1.0)
        lower = upper = 1.0
        if self.count <= self.mean - 1:
            lower = binomial_at_most(self.count, self.trials, rate)
        if self.count >= self.mean + 1:
            upper = binomial_at_least(self.count, self.trials, rate)
        return two_sided(lower, upper)

    @property
    def excess(self) -> float:
        """Relative difference from the mean; 0 where nothing is expected."""
        return (self.count - self.mean) / self.mean if self.mean > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class BinomialTable:
    """All probabilities of Binomial(trials, rate) that are not negligible, with both tails."""

    first: int
    """The count of the first entry."""
    mass: FloatArray
    at_most: FloatArray
    at_least: FloatArray

    @property
    def values(self) -> npt.NDArray[np.int64]:
        """The counts of the entries."""
        return np.arange(self.first, self.first + len(self.mass))

    def at_most_of(self, count: int) -> float:
        """Give P(X <= count)."""
        if count < self.first:
            return 0.0
        return float(self.at_most[min(count - self.first, len(self.mass) - 1)])

    def at_least_of(self, count: int) -> float:
        """Give P(X >= count)."""
        if count >= self.first + len(self.mass):
            return 0.0
        return float(self.at_least[max(count - self.first, 0)])


def binomial_table(trials: int, rate: float) -> BinomialTable:
    """Tabulate Binomial(trials, rate) from its mode outwards, by the ratios of its terms."""
    mode = min(int((trials + 1) * rate), trials)
    if rate >= 1:
        one = np.ones(1)
        return BinomialTable(trials, one, one, one)
    odds = rate / (1 - rate)
    # Exponential tails end it: 60 times the scale of mode and spread is beyond any double.
    reach = int(60 + 12 * np.sqrt(trials * rate * (1 - rate)))
    up = np.arange(mode, min(mode + reach, trials), dtype=np.float64)
    down = np.arange(mode, max(mode - reach, 0), -1, dtype=np.float64)
    with np.errstate(under="ignore"):
        above = np.cumprod((trials - up) / (up + 1) * odds)
        below = np.cumprod(down / (trials - down + 1) / odds)
    mass = np.concatenate((below[::-1], [1.0], above))
    keep = np.flatnonzero(mass > _NEGLIGIBLE)
    first = mode - len(below) + int(keep[0])
    mass = mass[keep[0] : keep[-1] + 1]
    mass = mass / mass.sum()
    return BinomialTable(
        first, mass, np.minimum(np.cumsum(mass), 1.0), np.minimum(np.cumsum(mass[::-1])[::-1], 1.0)
    )


def most_common_at_least(share: int, draws: int, table: BinomialTable) -> float:
    """Bound P(some value occurs `share` times or more among `draws` independent ones) (union bound)."""
    if share <= 1 or draws == 0:
        return 1.0
    tails = special.betainc(share, draws - share + 1, table.mass)
    return min(1.0, float(tails.sum()))


def ties_at_largest(ties: int, draws: int, table: BinomialTable) -> float:
    """Give P(the largest of `draws` independent values occurs `ties` times or more), exactly.

    Sums over the largest value m: all are <= m, and given that, the number of those equal to m is
    binomial.
    """
    if ties <= 1 or draws == 0:
        return 1.0
    with np.errstate(under="ignore"):
        all_below = np.exp(draws * np.log(table.at_most))
    share = np.minimum(table.mass / table.at_most, 1.0)
    return min(1.0, float((all_below * special.betainc(ties, draws - ties + 1, share)).sum()))


def holm(p_values: FloatArray) -> FloatArray:
    """Adjust p-values for their number by Holm's step-down method, valid under any dependence."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1.0)
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted
