"""The quadratic score of beliefs: its Bayes value, its beliefs, and what runs show by it."""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from dpaudit.canary import ESTIMATORS
from dpaudit.canary.family import ApproximateDpFamily, GaussianFamily, SubsampledGaussianFamily
from dpaudit.canary.loss_pair import approximate_dp_pair, gaussian_pair
from dpaudit.canary.quadratic_score import bayes_score, bayes_scores, ranked_beliefs, run_scores
from dpaudit.scores import CanaryScores

from .mechanisms import DELTA, Gaussian, SharedRandomness, SubsampledGaussian


@pytest.mark.parametrize("shift", [0.05, 0.3, 1.0, 3.0])
def test_bayes_score_is_the_integral(shift):
    grid = np.linspace(-12, 12 + shift, 200_001)
    present, absent = norm.pdf(grid - shift), norm.pdf(grid)
    doubt = np.trapezoid(present * absent / (present + absent), grid) / 2
    # Cells are 0.005 deviations wide: a score lost is of the order of their square.
    assert bayes_score(gaussian_pair(shift)) == pytest.approx(1 - doubt, abs=2e-6)
    assert bayes_score(gaussian_pair(shift)) <= 1 - doubt + 1e-9


def test_bayes_score_of_randomised_response():
    p = expit(1.3)
    assert bayes_score(approximate_dp_pair(1.3, 0.0)) == pytest.approx(1 - p * (1 - p))
    assert bayes_score(approximate_dp_pair(1.3, 1.0)) == 1.0


def test_no_belief_earns_more_than_the_bayes_score():
    rng, pair = np.random.default_rng(0), gaussian_pair(0.8)
    best = bayes_score(pair)
    for _ in range(200):
        beliefs = np.sort(rng.random(len(pair.included)))[::-1] if rng.random() < 0.5 else rng.random()
        earned = 0.5 * (pair.included @ (1 - (1 - beliefs) ** 2 * np.ones(len(pair.included))))
        earned += 0.5 * (pair.excluded @ (1 - np.square(beliefs) * np.ones(len(pair.included))))
        assert earned <= best + 1e-12


@pytest.mark.parametrize(
    ("family", "leakage"),
    [
        (GaussianFamily(), 0.0),
        (SubsampledGaussianFamily(0.1, 20), 0.0),
        (ApproximateDpFamily(1e-5), math.log(2.0)),
    ],
)
def test_beliefs_are_the_chances_of_inclusion_by_rank(family, leakage):
    beliefs = ranked_beliefs(family, leakage, 500)
    assert beliefs.mean() == pytest.approx(0.5, abs=1e-6)
    assert (np.diff(beliefs) >= -1e-9).all()
    pair = family.pair(leakage)
    # The lowest fiftieth of the pooled scores, by hand.
    pooled = np.cumsum((pair.included + pair.excluded)[::-1]) / 2
    included = np.interp(0.02, np.append(0, pooled), np.append(0, np.cumsum(pair.included[::-1])))
    assert beliefs[:10].sum() / 500 == pytest.approx(included / 2, abs=1e-9)


def test_table_is_the_bayes_score_between_its_nodes():
    leakage, values = bayes_scores(GaussianFamily())
    for shift in (0.05, 0.27, 0.93, 1.7, 4.0):
        exact = bayes_score(gaussian_pair(shift)) - 0.75
        assert np.interp(math.log(shift), leakage, values) - 0.75 == pytest.approx(exact, rel=1e-3)


def test_mean_over_runs_is_the_bayes_score_of_the_true_mechanism():
    mechanism, rng = Gaussian(0.9), np.random.default_rng(1)
    means = [
        run_scores(mechanism.scores(rng, 2000, 10), GaussianFamily(), math.log(0.9), 0.05)[0].mean()
        for _ in range(30)
    ]
    spread = np.std(means) / math.sqrt(30)
    assert abs(np.mean(means) - bayes_score(gaussian_pair(0.9))) < 4 * spread + 2e-4


def test_runs_of_different_size_are_ranked_each_for_itself():
    rng = np.random.default_rng(2)
    included = rng.random(90) < 0.5
    run = np.repeat([7, 3], [30, 60])
    score = rng.normal(size=90) + 100.0 * run
    both, _ = run_scores(CanaryScores(included=included, score=score, run=run), GaussianFamily(), 0.0, 0.05)
    for place, label in enumerate((3, 7)):
        alone = CanaryScores(included=included[run == label], score=score[run == label])
        assert run_scores(alone, GaussianFamily(), 0.0, 0.05)[0][0] == pytest.approx(both[place])


def test_run_level_bound_is_as_tight_as_independence_would_allow_but_for_students_quantile():
    rng = np.random.default_rng(3)
    for mechanism, least in ((Gaussian(0.26843), 0.90), (SubsampledGaussian(0.1, 10, 1.0), 0.88)):
        lowers = [
            ESTIMATORS["run_level_student"](
                mechanism.scores(rng, 6400, 10), delta=DELTA, confidence=0.95, claim=mechanism.claim
            ).lower
            for _ in range(11)
        ]
        assert least * mechanism.epsilon < np.median(lowers) < 1.02 * mechanism.epsilon


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.26843, 0.45, 0.9, 1.7])
@pytest.mark.parametrize("kind", [Gaussian, SharedRandomness])
def test_run_level_bound_holds_at_its_confidence(kind, shift):
    mechanism, rng, above = kind(shift), np.random.default_rng(4), 0
    for _ in range(2000):
        found = ESTIMATORS["run_level_student"](
            mechanism.scores(rng, 100, 10), delta=DELTA, confidence=0.95, claim=mechanism.claim
        )
        above += found.lower > mechanism.epsilon
    assert above / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.slow
def test_run_level_bound_holds_where_the_claim_is_not_the_truth():
    """Beliefs from a claim that is wrong in either direction leave a valid bound, only a looser one."""
    rng = np.random.default_rng(5)
    for shift in (0.3, 1.5):
        claim, mechanism = Gaussian(shift).claim, SharedRandomness(0.7)
        above = 0
        for _ in range(2000):
            found = ESTIMATORS["run_level_student"](
                mechanism.scores(rng, 60, 10), delta=DELTA, confidence=0.95, claim=claim
            )
            above += found.lower > mechanism.epsilon
        assert above / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
