"""Twenty known ways in which canary audits go wrong, each with a test that this one does not.

1 to 11, 17, 18 and 20 are here; those that show only in a training run, 12 to 16 and 19, are in
test_traps_of_training.py.
"""

import math

import numpy as np
import pytest

from dpaudit.canary import (
    ESTIMATORS,
    AuditPlan,
    ErrorBudget,
    PlannedBound,
    begin_attempt,
    credible_interval,
    gaussian_dp_lower_bound,
    settle_attempt,
)
from dpaudit.canary.claim_test import claimed_area_p_value
from dpaudit.canary.estimator import Question
from dpaudit.canary.family import GaussianFamily, SubsampledGaussianFamily
from dpaudit.canary.one_run import one_run_epsilon
from dpaudit.claim import PrivacyClaim
from dpaudit.interval import require_comparable
from dpaudit.scheme import Poisson

from .mechanisms import DELTA, Gaussian, RandomisedResponse, SharedRandomness, SubsampledGaussian
from .questions import CLAIM, NAMES, bound, scores

# 1. One threshold picked on the audited data: no choice may depend on the labels it counts.


@pytest.mark.parametrize("name", ["fair_coin_ratio", "one_run", "one_run_f_dp"])
@pytest.mark.parametrize("claim", [CLAIM, PrivacyClaim(epsilon=2.0)])
def test_trap_01_guess_counts_do_not_look_at_inclusion(name, claim):
    rng = np.random.default_rng(3)
    score = rng.normal(size=1000)
    counts = set()
    for _ in range(5):
        found = bound(name, scores(rng.random(1000) < 0.5, score), claim=claim, plan=AuditPlan())
        note = next(note for note in found.notes if "guesses right" in note)
        counts.add(note.split(" of ")[1].split(" ")[0] if claim is CLAIM else note.split("number")[1])
    assert len(counts) == 1


def test_trap_01_a_learnt_threshold_comes_from_canaries_that_do_not_count():
    rng = np.random.default_rng(4)
    included = rng.random(1000) < 0.5
    found = bound("clopper_pearson", scores(included, rng.normal(size=1000) + 2 * included))
    assert any("left out of the bound" in note for note in found.notes)


# 2. Canaries of one run that share randomness.


def test_trap_02_shared_randomness_leaves_any_dependence_bounds_valid_and_iid_ones_undecided():
    mechanism, rng, above = SharedRandomness(0.9), np.random.default_rng(2), dict.fromkeys(NAMES, 0)
    for _ in range(100):
        sample = mechanism.scores(rng, 100, 10)
        for name in NAMES:
            above[name] += bound(name, sample, claim=mechanism.claim).lower > mechanism.epsilon * (1 + 1e-9)
    most = 100 * (0.05 + 3 * math.sqrt(0.05 * 0.95 / 100))
    for name, estimator in ESTIMATORS.items():
        if estimator.validity == "any_dependence":
            assert above[name] <= most
        if estimator.validity == "iid":
            assert "independent" in bound(name, sample).notes[0]
            assert not PlannedBound(estimator=name).may_decide
    # The mechanism is a test of something.
    assert above["area_under_curve"] > most


# 3. Gaussian conversion of a mechanism that is not Gaussian.


@pytest.mark.parametrize("name", NAMES)
def test_trap_03_randomised_response_never_reports_a_gaussian_epsilon(name):
    mechanism = RandomisedResponse(1.0)
    sample = mechanism.scores(np.random.default_rng(6), 5000, 10)
    for delta in (0.0, DELTA):
        assert bound(name, sample, delta=delta, claim=PrivacyClaim(epsilon=1.0)).lower <= 1.05


def test_trap_03_the_gaussian_assumption_overstates_and_says_so():
    sample = RandomisedResponse(1.0).scores(np.random.default_rng(6), 50_000)
    found = gaussian_dp_lower_bound(sample, threshold=0.5, delta=DELTA, confidence=0.95)
    assert found.lower > 4
    assert found.notes[0].startswith("ASSUMES Gaussian")
    assert "gaussian_dp" not in ESTIMATORS


# 4. The 2 m delta term of one-run audits.


def test_trap_04_one_run_bound_warns_where_its_delta_term_rules():
    few, many = (
        ESTIMATORS["one_run"](
            Gaussian(0.9).scores(np.random.default_rng(8), m), delta=1e-4, confidence=0.95, claim=CLAIM
        )
        for m in (500, 50_000)
    )
    assert not any("m * delta" in note for note in few.notes)
    assert any("m * delta" in note for note in many.notes)
    same_share = [one_run_epsilon(m, m // 10, int(0.09 * m), 0.05, 1e-4) for m in (1000, 10_000, 100_000)]
    assert same_share[2] < same_share[1]


# 5. The number of guesses tuned on the data.


def test_trap_05_a_plan_fixes_threshold_and_guesses_and_leaves_its_hash():
    rng = np.random.default_rng(5)
    included = rng.random(1000) < 0.5
    sample = scores(included, rng.normal(size=1000) + 2 * included)
    plan = AuditPlan(threshold=1.5, guesses=100)
    assert any("threshold 1.5" in note for note in bound("clopper_pearson", sample, plan=plan).notes)
    assert any("of 100 guesses" in note for note in bound("one_run", sample, plan=plan).notes)
    assert f"plan {plan.fingerprint()}" in bound("one_run", sample, plan=plan).notes
    assert plan.fingerprint() == AuditPlan(guesses=100, threshold=1.5).fingerprint()
    assert plan.fingerprint() != AuditPlan(threshold=1.5, guesses=101).fingerprint()
    with pytest.raises(ValueError, match="guesses on 2000 canaries"):
        bound("one_run", sample, plan=AuditPlan(guesses=2000))


# 6. A Bayesian interval reported as confidence.


@pytest.mark.slow
def test_trap_06_credible_interval_is_no_confidence_bound_and_no_estimator():
    rng = np.random.default_rng(9)
    mechanism = RandomisedResponse(1.0)
    above = 0
    for _ in range(300):
        found = credible_interval(
            mechanism.scores(rng, 1000), threshold=0.5, delta=0.0, credibility=0.9, rng=rng
        )
        above += found.low > mechanism.epsilon
    assert above / 300 > 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert not any("credib" in name or "beta" in name for name in ESTIMATORS)


# 7. Degenerate scores.


@pytest.mark.parametrize("name", NAMES)
def test_trap_07_degenerate_scores_have_a_defined_answer(name):
    rng = np.random.default_rng(11)
    included = rng.random(400) < 0.5
    run = np.repeat(np.arange(10), 40)
    null = bound(name, scores(included, rng.normal(size=400), run))
    assert 0 <= null.lower < 2.5
    assert bound(name, scores(included, np.zeros(400), run)).lower < 2.5
    separated = bound(name, scores(included, included * 1.0, run))
    infinite = bound(name, scores(included, np.where(included, np.inf, -np.inf), run))
    assert separated.lower == infinite.lower
    assert 0 <= separated.lower < math.inf
    reversed_scores = bound(name, scores(included, -1.0 * included, run))
    if name != "clopper_pearson":  # it may learn the other direction on its pilot
        assert reversed_scores.lower == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("included", [[True], [False], [True, False], [True] * 5, [False] * 5])
def test_trap_07_few_canaries_show_nothing(name, included):
    sample = scores(included, np.arange(len(included), dtype=float))
    assert bound(name, sample).lower == 0


@pytest.mark.parametrize("name", NAMES)
def test_trap_07_separated_scores_are_bounded_by_what_so_many_canaries_can_show(name):
    """With all m guesses right, epsilon above log(m / log(1 / alpha)) was not excluded."""
    rng = np.random.default_rng(12)
    included = rng.random(60) < 0.5
    claim = PrivacyClaim(epsilon=1.0)
    sample = scores(included, included * 1.0, np.repeat(np.arange(10), 6))
    assert bound(name, sample, delta=0.0, claim=claim).lower <= math.log(60 / 0.05)


def test_trap_07_nan_scores_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        scores([True, False], [math.nan, 1.0])


# 8. Ties, and the order of the data.


@pytest.mark.parametrize("name", NAMES)
def test_trap_08_ties_carry_no_information_from_the_order_of_the_data(name):
    included = np.repeat([True, False], 500)
    sample = scores(included, np.zeros(1000), np.tile(np.arange(10), 100))
    assert bound(name, sample).lower < 0.6


@pytest.mark.parametrize("name", NAMES)
def test_trap_08_bounds_only_depend_on_the_order_of_the_scores(name):
    rng = np.random.default_rng(13)
    included = rng.random(800) < 0.5
    score = rng.normal(size=800) + 1.5 * included
    run = np.repeat(np.arange(10), 80)
    one = bound(name, scores(included, score, run)).lower
    other = bound(name, scores(included, np.exp(3 * score) - 7, run)).lower
    assert one == other


# 9. Simulated critical values.


def test_trap_09_claim_p_value_is_uniform_at_the_claim_and_small_beyond():
    mechanism = Gaussian(0.9)
    rng = np.random.default_rng(17)
    question = Question(DELTA, 0.95, mechanism.claim, AuditPlan())
    p_values = np.array([claimed_area_p_value(mechanism.scores(rng, 400), question) for _ in range(1000)])
    for level in (0.5, 0.05, 0.01, 1e-3):
        assert (p_values <= level).mean() <= level + 3 * math.sqrt(level * (1 - level) / 1000)
    worse = Gaussian(1.8).scores(rng, 1000)
    assert claimed_area_p_value(worse, question) < 1e-6
    assert bound("claimed_mechanism", worse).lower == pytest.approx(mechanism.epsilon, rel=1e-6)
    assert bound("claimed_mechanism", mechanism.scores(rng, 1000), confidence=0.999).lower == 0


@pytest.mark.slow
def test_trap_09_no_null_is_simulated_so_five_thousand_scores_keep_their_error():
    """With 1,500 simulated nulls on a grid of strengths this very cell had 7.6 % of violations."""
    mechanism, rng, above = Gaussian(0.92478), np.random.default_rng(9), 0
    for _ in range(2000):
        sample = mechanism.scores(rng, 5000)
        above += bound("normal_scores", sample, claim=mechanism.claim).lower > mechanism.epsilon
    assert above / 2000 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)


# 10. Inclusion that was not by fair coins.


@pytest.mark.parametrize("name", [name for name in NAMES if ESTIMATORS[name].fair_coins])
def test_trap_10_unfair_inclusion_is_refused_where_fair_coins_are_needed(name):
    rng = np.random.default_rng(14)
    included = rng.random(1000) < 0.4
    with pytest.raises(ValueError, match="fair coin"):
        bound(name, scores(included, rng.normal(size=1000)))


# 11. The neighbouring relation.


def test_trap_11_bounds_carry_the_neighbouring_relation_of_their_claim():
    options = {"epsilon": 4.0, "scheme": Poisson(1.0), "noise_multiplier": 2.0, "steps": 4}
    one_moved = PrivacyClaim(**options, adjacency="add_or_remove_one")
    replaced = PrivacyClaim(**options, adjacency="replace_one")
    sample = Gaussian(1.0).scores(np.random.default_rng(11), 2000)
    found = [bound("normal_scores", sample, claim=claim) for claim in (one_moved, replaced)]
    assert [one.adjacency for one in found] == ["add_or_remove_one", "replace_one"]
    with pytest.raises(ValueError, match="adjacency"):
        require_comparable(*found)
    # Replacing moves a sum by two clip norms: the same scores are far from that claim, and at this one.
    assert bound("claimed_mechanism", sample, claim=replaced, confidence=0.5).lower == 0
    moved_twice = Gaussian(2.0).scores(np.random.default_rng(11), 2000)
    assert bound("claimed_mechanism", moved_twice, claim=one_moved, confidence=0.999).lower > 0
    assert bound("claimed_mechanism", moved_twice, claim=replaced, confidence=0.999).lower == 0


# 17. A gate that is run again until it is green.


def test_trap_17_rerunning_until_green_leaves_a_true_claim_standing(tmp_path):
    rng, refuted = np.random.default_rng(17), 0
    for _ in range(1000):
        budget = ErrorBudget(0.05)
        while budget.attempts < 40 and not budget.refuted:
            budget = budget.spend(float(rng.random()))
        refuted += budget.refuted
    assert refuted / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    # Each attempt alone at 5 % would refute nearly every true claim.
    assert 1 - 0.95**40 > 0.87
    path = tmp_path / "spending.json"
    settle_attempt(path, begin_attempt(path, 1e-3), 1e-9)
    for _ in range(5):
        last = settle_attempt(path, begin_attempt(path, 1e-3), 0.9)
    assert last.refuted
    assert last.attempts == 6


# 18. One direction of an asymmetric mechanism.


def test_trap_18_epsilon_of_an_asymmetric_mechanism_is_its_worse_direction():
    mechanism = SubsampledGaussian(0.05, 20, 0.6)
    sample = mechanism.scores(np.random.default_rng(15), 20_000)
    forward = bound("area_under_curve", sample, claim=mechanism.claim).lower
    assert 0.7 * mechanism.epsilon < forward <= 1.05 * mechanism.epsilon
    # Exclusion is hard to guess under subsampling: the inclusion side shows more.
    by_side = {
        side: bound(
            "fair_coin_ratio", sample, claim=PrivacyClaim(epsilon=1.0), plan=AuditPlan(side=side, guesses=200)
        ).lower
        for side in ("included", "excluded")
    }
    assert by_side["included"] > 2 * by_side["excluded"] + 1


def test_trap_18_clopper_pearson_uses_both_directions():
    """Scores that betray absence only: a low score is never seen of an included canary."""
    rng = np.random.default_rng(16)
    included = rng.random(2000) < 0.5
    score = np.where(~included & (rng.random(2000) < 0.2), -1.0, 0.0)
    plan = AuditPlan(threshold=-0.5)
    assert bound("clopper_pearson", scores(included, score), plan=plan).lower > 3
    flipped = bound("clopper_pearson", scores(~included, -score), plan=AuditPlan(threshold=0.5))
    assert flipped.lower > 3


# 20. An auditor that shares its arithmetic with the accountant.


@pytest.mark.parametrize(
    ("rate", "steps", "noise"), [(0.1, 100, 1.386), (0.01, 1000, 0.735), (0.2, 1, 0.752)]
)
def test_trap_20_epsilon_of_the_auditor_is_that_of_another_accountant(rate, steps, noise):
    from dp_accounting.pld import privacy_loss_distribution

    composed = privacy_loss_distribution.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=5e-4, use_connect_dots=True
    ).self_compose(steps)
    lower, error = SubsampledGaussianFamily(rate, steps).epsilon(-math.log(noise), DELTA)
    assert lower <= composed.get_epsilon_for_delta(DELTA) <= lower * 1.002 + 2 * error


def test_trap_20_full_batches_have_a_closed_form():
    from scipy.special import ndtr

    for shift in (0.3, 0.9, 2.0):
        epsilon, _ = GaussianFamily().epsilon(math.log(shift), DELTA)
        delta = ndtr(shift / 2 - epsilon / shift) - math.exp(epsilon) * ndtr(-shift / 2 - epsilon / shift)
        assert delta == pytest.approx(DELTA, rel=1e-6)
        # Poisson sampling that leaves out nearly nobody is a full batch.
        nearly, _ = SubsampledGaussianFamily(1 - 1e-9, 4).epsilon(-math.log(2 / shift), DELTA)
        assert nearly == pytest.approx(epsilon, rel=1e-3)
