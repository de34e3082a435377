"""Tests of the noise in released updates: its scale, its shape, and that it is fresh everywhere."""

from __future__ import annotations

import math

import numpy as np

from dpaudit.canary.independence import across_coordinates, across_steps, across_workers
from dpaudit.canary.observations import StepObservations
from dpaudit.canary.undecided import undecided_test
from dpaudit.findings import HypothesisTest

_SHAPE_SAMPLE = 100_000
# Normal quantiles of a two-sided 5 % test and of 80 % power.
_DETECTABLE = 1.959964 + 0.841621


def noise_scale_test(observations: StepObservations, noise_multiplier: float) -> HypothesisTest:
    """Test that the noise has the claimed standard deviation in every parameter tensor, both ways.

    Too little noise is a leak; too much is noise calibrated to the wrong sum. A tensor without noise
    is only seen by a canary in it, hence one test per tensor, corrected for their number. A value is
    noise wherever its canary did not participate; a tensor whose canaries took part in every step shows
    none, and is not tested.

    Raises:
      ValueError: no tensor shows any noise.
    """
    from scipy.special import gammainc, gammaincc

    column = np.asarray(observations.tensor)
    absent = ~observations.participated
    sizes = np.bincount(column, weights=absent.sum(axis=0))
    seen = sizes > 0
    if not seen.any():
        raise ValueError("every canary took part in every step: noise was nowhere seen alone")
    squares = np.square(observations.value).sum(axis=0, where=absent) / noise_multiplier**2
    sizes, totals = sizes[seen], np.bincount(column, weights=squares)[seen]
    tails = np.minimum(gammainc(sizes / 2, totals / 2), gammaincc(sizes / 2, totals / 2))
    worst = int(np.argmin(tails))
    effect = math.sqrt(totals[worst] / sizes[worst])
    return undecided_test(
        "DPA302",
        "noise scale",
        f"the noise of every parameter tensor has standard deviation {noise_multiplier:g} clip norms",
        statistic=effect,
        p_value=2 * float(tails[worst]) * len(sizes),
        effect=effect - 1,
        effect_unit="relative error of the noise standard deviation",
        detectable_effect=_DETECTABLE / math.sqrt(2 * float(sizes.min())),
    )


def noise_shape_test(observations: StepObservations, noise_multiplier: float) -> HypothesisTest:
    """Test that the noise is Gaussian: clipping after the noise, or another law, changes its shape.

    Kolmogorov-Smirnov against the fully specified law of the claim. The p-value is Massart's bound, which
    holds for any number of values and is all but exact for many; the asymptotic law with Stephens'
    correction falls 4 % short at p = 1e-6 and a thousand values.

    References:
      Massart (1990), Ann. Probab. 18, 1269-1283, Corollary 1.
    """
    from scipy.special import ndtr

    values = observations.noise.ravel()
    values = values[:: max(1, len(values) // _SHAPE_SAMPLE)]
    order = ndtr(np.sort(values) / noise_multiplier)
    count = len(order)
    grid = np.arange(count + 1) / count
    distance = float(max((grid[1:] - order).max(), (order - grid[:-1]).max()))
    return undecided_test(
        "DPA303",
        "noise shape",
        f"the noise is Gaussian with standard deviation {noise_multiplier:g} clip norms",
        statistic=distance,
        p_value=2 * math.exp(-2 * count * distance**2),
        effect=distance,
        effect_unit="largest distance of distribution functions",
    )


def independence_tests(observations: StepObservations) -> tuple[HypothesisTest, ...]:
    """Test that noise is fresh in every step, in every coordinate and on every worker.

    Noise that repeats passes every test of its variance, and averages out of the released model.
    """
    noise = observations.noise
    tests = []
    if observations.steps > 1:
        tests.append(_fresh("DPA304", "steps", *across_steps(noise)))
    if noise.shape[1] > 1:
        tests.append(_fresh("DPA305", "coordinates", *across_coordinates(noise)))
    workers = np.asarray(observations.worker)[observations.noise_columns]
    if len(np.unique(workers)) > 1:
        tests.append(_fresh("DPA306", "workers", *across_workers(noise, workers)))
    return tuple(tests)


def require_noise(observations: StepObservations) -> None:
    """Refuse observations in which nothing but noise is never seen.

    Raises:
      ValueError: no canary was left out.
    """
    if observations.included.all():
        raise ValueError(
            f"none of {observations.canaries} canaries was left out of the training set; the noise is "
            "measured at the coordinates of those"
        )


def _fresh(rule: str, over: str, correlation: float, p_value: float) -> HypothesisTest:
    return undecided_test(
        rule,
        f"independent noise across {over}",
        f"the noise of different {over} is independent",
        statistic=correlation,
        p_value=p_value,
        effect=correlation,
        effect_unit="largest correlation seen",
    )
