"""The null law of a sum of squares of binomial counts: a convolution for few, three moments for many."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from dpaudit.canary.loss_pair import Floats
from dpaudit.canary.rank_null import upper_tail

# Rounding moves the sum by at most this share of its standard deviation.
_ROUNDING = 0.1
_MOST_CELLS = 1 << 17
# Binomial masses below are left out; all of them together, and the rounding of the FFT, are below 1e-12.
_NEGLIGIBLE = 1e-16
_FFT_ERROR = 1e-12


def dispersion_tails(total: float, counts: int, trials: int, rate: float) -> tuple[float, float]:
    """Bound P(S <= total) and P(S >= total), S the sum of squares of standardised binomial counts.

    A handful of counts are often all the same: the chance of that is what a smooth law knows nothing of.
    Few counts are therefore convolved on a lattice, rounded towards the larger probability. Many
    have the shifted gamma law of their exact mean, variance and skewness.

    Args:
      total: sum of (count - trials rate)^2 / (trials rate (1 - rate)).
      counts: how many, independent.
      trials: of each count.
      rate: in (0, 1).
    """
    squares = _squares(trials, rate)[0]
    spacing = _ROUNDING * math.sqrt(2 / counts)
    if counts * squares.max() / spacing < _MOST_CELLS:
        lower, upper, spacing = _lattice_laws(counts, trials, rate)
        place = int(total / spacing * (1 + 1e-12))
        below = float(lower[min(place, len(lower) - 1)])
        reached = math.ceil(total / spacing * (1 - 1e-12))
        above = 1 - float(upper[reached - 1]) if 0 < reached <= len(upper) else float(reached == 0)
        return min(1.0, below + _FFT_ERROR), min(1.0, above + _FFT_ERROR)
    masses = _squares(trials, rate)[1]
    variance = float(masses @ (squares - 1) ** 2)
    skewness = float(masses @ (squares - 1) ** 3) / (variance**1.5 * math.sqrt(counts))
    standardised = np.array([total - counts, counts - total]) / math.sqrt(counts * variance)
    above, below = upper_tail(standardised, np.array([skewness, -skewness]))
    return float(below), float(above)


@lru_cache(maxsize=32)
def _lattice_laws(counts: int, trials: int, rate: float) -> tuple[Floats, Floats, float]:
    """Give the distribution functions of the sum with every square rounded down, and rounded up."""
    squares, masses = _squares(trials, rate)
    spacing = _ROUNDING * math.sqrt(2 / counts)
    laws = []
    for places in (np.floor(squares / spacing), np.ceil(squares / spacing)):
        one = np.bincount(places.astype(np.int64), weights=masses)
        length = counts * (len(one) - 1) + 1
        size = 1 << length.bit_length()
        power = np.fft.irfft(np.fft.rfft(one, size) ** counts, size)[:length]
        laws.append(np.minimum(np.cumsum(np.maximum(power, 0)), 1.0))
    return laws[0], laws[1], spacing


def _squares(trials: int, rate: float) -> tuple[Floats, Floats]:
    """Squares of the standardised count, and their masses."""
    from scipy.special import gammaln

    count = np.arange(trials + 1)
    logs = gammaln(trials + 1) - gammaln(count + 1) - gammaln(trials - count + 1)
    masses = np.exp(logs + count * math.log(rate) + (trials - count) * math.log1p(-rate))
    kept = masses > _NEGLIGIBLE
    squares = np.square(count - trials * rate) / (trials * rate * (1 - rate))
    return squares[kept], masses[kept] / masses[kept].sum()
