"""The spread of participation counts: exact where few counts are often all the same."""

import math

import numpy as np
import pytest
from scipy import stats

from dpaudit.canary.dispersion_null import dispersion_tails


def total(counts, trials, rate):
    return float(np.square(counts - trials * rate).sum() / (trials * rate * (1 - rate)))


def test_two_equal_counts_are_as_likely_as_they_are():
    """Two canaries that both took part exactly ten times in a hundred are nothing special."""
    chance = stats.binom.pmf(10, 100, 0.1)
    lower, upper = dispersion_tails(0.0, 2, 100, 0.1)
    assert lower == pytest.approx(chance**2, rel=1e-6)
    assert upper == 1.0


@pytest.mark.parametrize(("trials", "rate"), [(3, 0.3), (20, 0.1)])
def test_tails_are_those_of_every_outcome(trials, rate):
    pmf = stats.binom.pmf(np.arange(trials + 1), trials, rate)
    outcomes = [total(np.array([a, b]), trials, rate) for a in range(trials + 1) for b in range(trials + 1)]
    outcomes, masses = np.array(outcomes), np.outer(pmf, pmf).ravel()
    for value in np.unique(np.round(outcomes, 9))[:40]:
        lower, upper = dispersion_tails(float(value), 2, trials, rate)
        # Never below the exact tail; above it by what rounding may take in.
        exact = masses[outcomes <= value + 1e-8].sum(), masses[outcomes >= value - 1e-8].sum()
        nearby = masses[outcomes <= value + 0.21].sum(), masses[outcomes >= value - 0.21].sum()
        assert exact[0] - 1e-9 <= lower <= nearby[0] + 1e-9
        assert exact[1] - 1e-9 <= upper <= nearby[1] + 1e-9


@pytest.mark.parametrize(
    ("counts", "trials", "rate"),
    [(2, 100, 0.1), (20, 100, 0.1), (100, 2, 0.1), (300, 100, 0.1), (100, 30, 0.02)],
)
def test_p_values_are_calibrated(counts, trials, rate):
    rng = np.random.default_rng(0)
    drawn = rng.binomial(trials, rate, (20_000, counts))
    totals = np.square(drawn - trials * rate).sum(axis=1) / (trials * rate * (1 - rate))
    values, back = np.unique(totals, return_inverse=True)
    tails = np.array([dispersion_tails(float(value), counts, trials, rate) for value in values])[back]
    for level in (0.05, 0.01, 1e-3):
        most = level + 4 * math.sqrt(level / 20_000)
        assert (tails[:, 0] <= level).mean() <= most
        assert (tails[:, 1] <= level).mean() <= most
    if counts == 300:  # many counts use up what they are allowed
        assert (tails <= 0.05).mean() > 0.045
