"""Tests of what a participating canary adds to an update, and of how often it participates."""

from __future__ import annotations

import math

import numpy as np

from dpaudit.canary.dispersion_null import dispersion_tails
from dpaudit.canary.observations import StepObservations
from dpaudit.canary.undecided import undecided_test
from dpaudit.findings import HypothesisTest

# Normal quantiles: two-sided 5 % test, one-sided 5 % test, 80 % power.
_TWO_SIDED, _ONE_SIDED, _POWER = 1.959964, 1.644854, 0.841621
# A single missed clip stands out by many deviations, or not at all: little error is enough for it.
_SHARE_OF_LARGEST = 0.1


def sensitivity_test(observations: StepObservations, noise_multiplier: float) -> HypothesisTest | None:
    """Test that no participating canary adds more than one clip norm.

    A tenth of the error looks at the largest single one, so that a clip missed by one canary or in one
    step is seen too; the rest looks at the mean over all. None where no canary participated.
    """
    from scipy.special import ndtr

    values = observations.value[observations.participated]
    if len(values) == 0:
        return None
    excess = float(values.mean()) - 1
    by_mean = float(ndtr(-excess * math.sqrt(len(values)) / noise_multiplier))
    largest = (float(values.max()) - 1) / noise_multiplier
    by_largest = min(1.0, len(values) * float(ndtr(-largest)))
    return undecided_test(
        "DPA307",
        "sensitivity",
        "no participating canary adds more than one clip norm",
        statistic=1 + excess,
        p_value=min(by_mean / (1 - _SHARE_OF_LARGEST), by_largest / _SHARE_OF_LARGEST),
        effect=excess,
        effect_unit="clip norms above one, on average",
        detectable_effect=(_ONE_SIDED + _POWER) * noise_multiplier / math.sqrt(len(values)),
    )


def rate_test(observations: StepObservations, rate: float) -> HypothesisTest | None:
    """Test that included canaries participate at the claimed rate, both ways; exact binomial.

    None where no canary was included.
    """
    from scipy.special import bdtr, bdtrc

    trials = observations.steps * int(np.count_nonzero(observations.included))
    if trials == 0:
        return None
    count = int(np.count_nonzero(observations.participated))
    below = float(bdtr(count, trials, rate))
    above = float(bdtrc(count - 1, trials, rate)) if count > 0 else 1.0
    deviation = math.sqrt(rate * (1 - rate) / trials)
    return undecided_test(
        "DPA308",
        "sampling rate",
        f"an included canary joins each step with probability {rate:g}",
        statistic=count / trials,
        p_value=2 * min(below, above),
        effect=count / trials / rate - 1,
        effect_unit="relative error of the rate",
        detectable_effect=(_TWO_SIDED + _POWER) * deviation / rate,
    )


def dispersion_test(observations: StepObservations, rate: float) -> HypothesisTest | None:
    """Test that participations vary as independent coins do, over canaries and over steps, both ways.

    A shuffled epoch gives every canary the same number of participations; a batch of fixed size makes
    the canaries of a step compete; correlated sampling spreads both. None where nothing can vary.
    """
    taken = observations.participated[:, observations.included]
    if taken.shape[1] < 2 or observations.steps < 2 or rate == 1:
        return None
    by_canary = _dispersion(taken.sum(axis=0), observations.steps, rate)
    by_step = _dispersion(taken.sum(axis=1), taken.shape[1], rate)
    ratio, p_value = min(by_canary, by_step, key=lambda part: part[1])
    return undecided_test(
        "DPA309",
        "independent participation",
        "participations are independent coins, over canaries and over steps",
        statistic=ratio,
        p_value=2 * p_value,
        effect=ratio - 1,
        effect_unit="relative excess of the variance of counts",
        detectable_effect=(_TWO_SIDED + _POWER) * math.sqrt(2 / min(taken.shape)),
    )


def _dispersion(
    counts: np.ndarray[tuple[int], np.dtype[np.int64]], trials: int, rate: float
) -> tuple[float, float]:
    """Compare the spread of counts around their claimed mean with the binomial variance, both ways."""
    ratio = float(np.square(counts - trials * rate).sum()) / (trials * rate * (1 - rate))
    tails = dispersion_tails(ratio, len(counts), trials, rate)
    return ratio / len(counts), min(1.0, 2 * min(tails))
