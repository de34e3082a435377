"""What every estimator says and refuses, and how tight it is at sizes that are quick."""

import math

import numpy as np
import pytest

from dpaudit.canary import ESTIMATORS, AuditPlan, claim_gate
from dpaudit.canary.claim_test import score_test
from dpaudit.canary.credible import credible_interval
from dpaudit.canary.gaussian_dp import gaussian_dp_lower_bound
from dpaudit.claim import PrivacyClaim
from dpaudit.interval import Basis
from dpaudit.scheme import Poisson

from .mechanisms import DELTA, Gaussian, RandomisedResponse, SubsampledGaussian
from .questions import NAMES, bound, scores


@pytest.mark.parametrize("name", NAMES)
def test_result_says_what_it_is(name):
    claim = PrivacyClaim(
        epsilon=4.0, scheme=Poisson(1.0), noise_multiplier=1.1, steps=1, adjacency="replace_one", unit="user"
    )
    found = bound(name, Gaussian(0.9).scores(np.random.default_rng(0), 100, 10), claim=claim)
    assert found.upper == math.inf
    assert found.basis is Basis.AUDIT
    assert (found.confidence, found.delta) == (0.95, DELTA)
    assert (found.adjacency, found.unit, found.scheme) == ("replace_one", "user", Poisson(1.0))
    assert found.method == name
    assert found.reference.startswith("arXiv:")
    words = {"iid": "independent", "any_dependence": "any dependence", "claim": "claim test"}
    assert words[ESTIMATORS[name].validity] in found.notes[0]


@pytest.mark.parametrize("name", NAMES)
def test_claim_is_needed_exactly_where_it_is_said(name):
    sample = Gaussian(0.9).scores(np.random.default_rng(0), 50, 10)
    if ESTIMATORS[name].needs_claim:
        with pytest.raises(ValueError, match="needs a claim"):
            bound(name, sample, claim=None)
    else:
        assert bound(name, sample, claim=None).lower >= 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("delta", "confidence"), [(-1e-9, 0.95), (1.0, 0.95), (DELTA, 0.0), (DELTA, 1.0)])
def test_bad_questions_are_refused(name, delta, confidence):
    with pytest.raises(ValueError, match="expected 0"):
        bound(name, Gaussian(0.9).scores(np.random.default_rng(0), 50), delta=delta, confidence=confidence)


def test_malformed_plans_are_refused():
    for options, match in (
        ({"threshold": math.nan}, "NaN"),
        ({"guesses": 0}, "guesses = 0"),
        ({"side": "left"}, "side"),
    ):
        with pytest.raises(ValueError, match=match):
            AuditPlan(**options)


def test_gaussian_bound_is_tight_and_valid_where_its_assumption_holds():
    mechanism = Gaussian(0.9)
    rng = np.random.default_rng(7)
    lowers = np.array(
        [
            gaussian_dp_lower_bound(
                mechanism.scores(rng, 1000), threshold=0.45, delta=DELTA, confidence=0.95
            ).lower
            for _ in range(300)
        ]
    )
    assert (lowers > mechanism.epsilon).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert np.median(lowers) > 0.6 * mechanism.epsilon
    with pytest.raises(ValueError, match="are no audit"):
        gaussian_dp_lower_bound(mechanism.scores(rng, 10), threshold=math.nan, delta=DELTA, confidence=0.95)


def test_credible_interval_covers_what_it_claims_of_its_posterior():
    rng = np.random.default_rng(10)
    found = credible_interval(
        RandomisedResponse(1.0).scores(rng, 10_000), threshold=0.5, delta=0.0, credibility=0.95, rng=rng
    )
    assert found.low < 1.1 < found.high + 0.2
    assert found.high - found.low < 0.2
    with pytest.raises(ValueError, match="out of range"):
        credible_interval(
            RandomisedResponse(1.0).scores(rng, 10), threshold=0.5, delta=0.0, credibility=1.0, rng=rng
        )


def test_a_plan_guesses_inclusion_alone_where_a_high_score_says_more():
    mechanism = SubsampledGaussian(0.1, 100, 0.9359)
    sample = mechanism.scores(np.random.default_rng(15), 20_000)
    planned = bound("one_run_f_dp", sample, claim=mechanism.claim)
    assert any("side: included" in note for note in planned.notes)
    symmetric = bound("one_run_f_dp", Gaussian(0.9).scores(np.random.default_rng(15), 4000))
    assert any("side: both" in note for note in symmetric.notes)


def test_the_score_test_joins_the_gate():
    mechanism = Gaussian(0.9)
    rng = np.random.default_rng(17)
    faithful = score_test(mechanism.scores(rng, 1000), mechanism.claim, delta=DELTA)
    faulty = score_test(Gaussian(1.8).scores(rng, 1000), mechanism.claim, delta=DELTA)
    assert (faithful.rule, faulty.rule) == ("DPA310", "DPA310")
    assert not claim_gate([faithful]).rejected
    assert claim_gate([faithful, faulty]).rejected
    assert score_test(scores([True] * 20, np.arange(20.0)), mechanism.claim, delta=DELTA).p_value == 1.0
    assert score_test(mechanism.scores(rng, 100), PrivacyClaim(delta=DELTA), delta=DELTA) is None


def test_a_claim_without_a_mechanism_cannot_be_tested_but_by_its_epsilon():
    sample = Gaussian(2.0).scores(np.random.default_rng(18), 2000)
    assert bound("claimed_mechanism", sample, claim=PrivacyClaim(delta=1e-5)).lower == 0
    assert bound("claimed_mechanism", sample, claim=PrivacyClaim(epsilon=0.5)).lower == pytest.approx(0.5)


def test_rank_bounds_are_tight_on_independent_scores():
    mechanism = Gaussian(0.9)
    rng = np.random.default_rng(19)
    for name in ("area_under_curve", "normal_scores"):
        lowers = [bound(name, mechanism.scores(rng, 1000)).lower for _ in range(60)]
        assert np.median(lowers) > 0.83 * mechanism.epsilon


def test_run_level_bound_is_tight_from_ten_runs():
    mechanism = Gaussian(0.9)
    rng = np.random.default_rng(20)
    lowers = [bound("run_level_student", mechanism.scores(rng, 1000, 10)).lower for _ in range(30)]
    assert np.median(lowers) > 0.9 * mechanism.epsilon


def test_one_run_bound_reaches_the_published_tightness():
    mechanism = Gaussian(0.9)
    rng = np.random.default_rng(21)
    lowers = [bound("one_run_f_dp", mechanism.scores(rng, 10_000)).lower for _ in range(20)]
    assert np.median(lowers) > 0.66 * mechanism.epsilon
