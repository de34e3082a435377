"""Which bounds may refute a claim, and that a true claim is refuted at most as often as was allowed."""

import math

import numpy as np
import pytest

from dpaudit.canary import (
    ESTIMATORS,
    PlannedBound,
    StepObservations,
    deciding_confidences,
    per_step_lower_bound,
)
from dpaudit.canary.family import SubsampledGaussianFamily
from dpaudit.claim import PrivacyClaim
from dpaudit.scheme import Poisson

from .mechanisms import Gaussian, SharedRandomness, SubsampledGaussian


def planned(*, independent):
    return [PlannedBound(estimator=name, independent_canaries=independent) for name in ESTIMATORS]


def deciding(*, independent):
    plans = planned(independent=independent)
    return {plan.estimator for plan, level in zip(plans, deciding_confidences(plans), strict=True) if level}


def test_only_bounds_whose_assumptions_hold_may_decide():
    assert deciding(independent=False) == {"one_run", "one_run_f_dp", "run_level_betting"}
    iid = {name for name, estimator in ESTIMATORS.items() if estimator.validity == "iid"}
    assert deciding(independent=True) == iid | {"one_run", "one_run_f_dp", "run_level_betting"}
    assert PlannedBound(estimator="per_step").may_decide


def test_the_error_is_shared_out_over_the_deciding_bounds():
    plans = [
        PlannedBound(estimator="per_step"),
        PlannedBound(estimator="normal_scores"),
        PlannedBound(estimator="normal_scores", independent_canaries=True),
        PlannedBound(estimator="run_level_student", independent_canaries=True),
        PlannedBound(estimator="one_run_f_dp"),
    ]
    third = pytest.approx(1 - 1e-3 / 3, abs=1e-12)
    assert deciding_confidences(plans) == (third, None, third, None, third)
    assert deciding_confidences(plans[1:2]) == (None,)
    assert deciding_confidences([]) == ()
    assert deciding_confidences(plans[:1], family_wise_error=2e-4) == (1 - 2e-4,)


def test_unknown_bounds_and_levels_are_refused():
    with pytest.raises(ValueError, match="normal_scores"):
        PlannedBound(estimator="normal_score")
    with pytest.raises(ValueError, match="family_wise_error"):
        deciding_confidences([], family_wise_error=1.0)


def refuted(mechanism, scores, plans, levels):
    return any(
        level is not None
        and ESTIMATORS[plan.estimator](
            scores, delta=mechanism.delta, confidence=level, claim=mechanism.claim
        ).lower
        > mechanism.epsilon
        for plan, level in zip(plans, levels, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mechanism", "independent", "error"),
    [
        pytest.param(Gaussian(0.9), True, 0.1, id="gaussian-0.1"),
        pytest.param(Gaussian(0.9), True, 1e-3, id="gaussian-0.001"),
        pytest.param(SubsampledGaussian(0.2, 5, 1.0), True, 0.01, id="subsampled-gaussian-0.01"),
        pytest.param(SharedRandomness(0.9), False, 0.1, id="shared-randomness-0.1"),
        pytest.param(SharedRandomness(0.9), False, 1e-3, id="shared-randomness-0.001"),
    ],
)
def test_a_true_claim_is_refuted_at_most_as_often_as_was_allowed(mechanism, independent, error):
    rng, audits, plans = np.random.default_rng(0), 2000, planned(independent=independent)
    levels = deciding_confidences(plans, family_wise_error=error)
    count = sum(refuted(mechanism, mechanism.scores(rng, 40, 10), plans, levels) for _ in range(audits))
    assert count / audits <= error + 3 * math.sqrt(error * (1 - error) / audits)


def test_a_false_claim_is_refuted_at_the_family_wise_level():
    rng, plans = np.random.default_rng(1), planned(independent=True)
    levels = deciding_confidences(plans)
    claim, truth = Gaussian(0.5), Gaussian(1.0)
    scores = truth.scores(rng, 400, 10)
    assert refuted(claim, scores, plans, levels)
    assert not refuted(claim, claim.scores(rng, 400, 10), plans, levels)


@pytest.mark.slow
def test_per_step_bound_holds_at_deciding_levels():
    """Far in the tail the quantiles of the noncentral t law are still those of its approximation."""
    rng, above = np.random.default_rng(2), {0.01: 0, 1e-3: 0}
    claim = PrivacyClaim(scheme=Poisson(0.3), noise_multiplier=1.0, steps=1)
    epsilon = SubsampledGaussianFamily(0.3, 1).epsilon(0.0, 1e-5)[0]
    for _ in range(4000):
        included = rng.random(400) < 0.5
        participated = (rng.random((1, 400)) < 0.3) & included
        observations = StepObservations(
            value=rng.normal(size=(1, 400)) + participated, participated=participated, included=included
        )
        for error in above:
            found = per_step_lower_bound(
                observations, claim, delta=1e-5, confidence=1 - error, rate="claimed"
            )
            above[error] += found.lower > epsilon
    for error, count in above.items():
        assert count / 4000 <= error + 3 * math.sqrt(error / 4000)
