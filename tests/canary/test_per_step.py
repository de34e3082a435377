"""The per-step audit: each part calibrated, every bug of the kind seen in the wild caught, tight."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dpaudit.canary.claim_gate import claim_gate
from dpaudit.canary.family import SubsampledGaussianFamily
from dpaudit.canary.likelihood_ratio import likelihood_ratio_scores, log_likelihood_ratios
from dpaudit.canary.noise_tests import noise_scale_test, noise_shape_test
from dpaudit.canary.observations import StepObservations
from dpaudit.canary.per_step import per_step_lower_bound, per_step_tests
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import ClaimError
from dpaudit.scheme import Poisson, Shuffle

RATE, STEPS, NOISE = 0.1, 100, 1.386
CLAIM = PrivacyClaim(epsilon=4.0, delta=1e-5, scheme=Poisson(RATE), noise_multiplier=NOISE, steps=STEPS)
EPSILON = SubsampledGaussianFamily(RATE, STEPS).epsilon(-math.log(NOISE), 1e-5)[0]


def poisson(rng, canaries, steps=STEPS, rate=RATE):
    included = rng.random(canaries) < 0.5
    # A handful of canaries must not all land on one side.
    included[:2] = [True, False]
    return included, (rng.random((steps, canaries)) < rate) & included


def observe(rng, canaries=60, *, noise=None, signal=1.0, batches=poisson, **labels):
    included, participated = batches(rng, canaries)
    noise = rng.normal(0, NOISE, participated.shape) if noise is None else noise(rng, participated.shape)
    value = noise + signal * participated
    return StepObservations(value=value, participated=participated, included=included, **labels)


def gate(observations, claim=CLAIM):
    return claim_gate(per_step_tests(observations, claim))


def rejected(observations):
    return {test.rule for test in gate(observations).tests if test.rejected}


def shuffled(rng, canaries):
    """Ten shuffled epochs of ten batches each: every included canary once an epoch."""
    included = rng.random(canaries) < 0.5
    included[:2] = [True, False]
    participated = np.zeros((STEPS, canaries), bool)
    for epoch in range(10):
        place = rng.integers(10, size=canaries)
        participated[10 * epoch + place, np.arange(canaries)] = True
    return included, participated & included


@pytest.mark.slow
def test_gate_and_each_part_are_calibrated():
    rng = np.random.default_rng(0)
    claim = PrivacyClaim(scheme=Poisson(RATE), noise_multiplier=1.3, steps=20)
    repetitions, parts, gates = 3000, {}, []
    for _ in range(repetitions):
        included, participated = poisson(rng, 40, steps=20)
        observations = StepObservations(
            value=rng.normal(0, 1.3, participated.shape) + participated,
            participated=participated,
            included=included,
            worker=np.arange(40) % 2,
            tensor=np.arange(40) // 20,
        )
        tests = per_step_tests(observations, claim)
        gates.append(claim_gate(tests).p_value)
        for test in tests:
            parts.setdefault(test.rule, []).append(test.p_value)
    assert set(parts) == {f"DPA30{k}" for k in range(2, 10)}
    for rule, p_values in [*parts.items(), ("gate", gates)]:
        for level in (0.05, 0.01, 1e-3):
            most = level + 3 * math.sqrt(level * (1 - level) / repetitions)
            assert np.mean(np.array(p_values) <= level) <= most, (rule, level)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"rate": "claimed"}, {"rate": "claimed", "sensitivity": "claimed"}])
def test_lower_bound_holds_at_its_confidence(options):
    rng = np.random.default_rng(1)
    # One step at a high rate: composing many is what takes the time.
    epsilon = SubsampledGaussianFamily(0.3, 1).epsilon(0.0, 1e-5)[0]
    claim = PrivacyClaim(scheme=Poisson(0.3), noise_multiplier=1.0, steps=1)
    above = 0
    for _ in range(2000):
        included, participated = poisson(rng, 400, steps=1, rate=0.3)
        observations = StepObservations(
            value=rng.normal(0, 1.0, participated.shape) + participated,
            participated=participated,
            included=included,
        )
        found = per_step_lower_bound(observations, claim, delta=1e-5, confidence=0.95, **options)
        above += found.lower > epsilon
    assert above / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("epsilon", [1, 2, 4, 8])
def test_lower_bound_is_tight_from_one_run(epsilon):
    noise = {1: 3.9421, 2: 2.262, 4: 1.386, 8: 0.9359}[epsilon]
    rng = np.random.default_rng(epsilon)
    claim = PrivacyClaim(scheme=Poisson(RATE), noise_multiplier=noise, steps=STEPS)
    truth = SubsampledGaussianFamily(RATE, STEPS).epsilon(-math.log(noise), 1e-5)[0]
    observations = observe(rng, 20_000, noise=lambda rng, shape: rng.normal(0, noise, shape))
    found = per_step_lower_bound(observations, claim, delta=1e-5, confidence=0.95, sensitivity="claimed")
    assert 0.97 * truth < found.lower <= truth * 1.005
    # Signal over noise estimated together: what is least known at epsilon 1 is the signal.
    found = per_step_lower_bound(observations, claim, delta=1e-5, confidence=0.95)
    assert 0.92 * truth < found.lower <= truth * 1.005


def test_full_batches_need_no_rate():
    rng = np.random.default_rng(2)
    included = rng.random(500) < 0.5
    participated = np.broadcast_to(included, (5, 500))
    observations = StepObservations(
        value=rng.normal(0, 2.0, (5, 500)) + participated, participated=participated, included=included
    )
    claim = PrivacyClaim(scheme=Poisson(1.0), noise_multiplier=2.0, steps=5)
    from dpaudit.canary.family import GaussianFamily

    truth = GaussianFamily().epsilon(math.log(math.sqrt(5) / 2), 1e-5)[0]
    found = per_step_lower_bound(observations, claim, delta=1e-5, confidence=0.95)
    assert 0.65 * truth < found.lower < 1.05 * truth
    assert not gate(observations, claim).rejected
    assert "DPA309" not in {test.rule for test in per_step_tests(observations, claim)}


def test_a_faithful_run_passes():
    for seed in range(20):
        assert not gate(observe(np.random.default_rng(seed))).rejected


# Bugs, caught at 1e-3 by as many canaries (half of them included) x 100 steps.


@pytest.mark.parametrize(
    ("factor", "canaries"), [(0.95, 120), (0.9, 32), (0.8, 10), (0.5, 4), (1.1, 36), (1 / 180, 2), (180.0, 2)]
)
def test_wrong_noise_scale_is_caught_both_ways(factor, canaries):
    caught = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        observations = observe(rng, canaries, noise=lambda rng, shape: rng.normal(0, factor * NOISE, shape))
        caught += bool(rejected(observations) & {"DPA302", "DPA303"})
    assert caught >= 19


def test_noise_missing_in_one_tensor_is_caught_by_a_canary_in_it():
    rng = np.random.default_rng(3)
    tensor = np.repeat(np.arange(5), 8)

    def noise(rng, shape):
        return rng.normal(0, NOISE, shape) * (tensor != 3)

    assert "DPA302" in rejected(observe(rng, 40, noise=noise, tensor=tensor))


def test_every_tensor_is_looked_at():
    tensor = np.repeat(np.arange(4), 10)
    for victim in range(4):
        rng = np.random.default_rng(victim)
        scale = np.where(tensor == victim, 0.5, 1.0)
        observations = observe(
            rng, 40, noise=lambda rng, shape, s=scale: rng.normal(0, NOISE, shape) * s, tensor=tensor
        )
        assert "DPA302" in rejected(observations)


@pytest.mark.parametrize("signal", [10.0, 2.0, 1.5])
def test_missing_clip_is_caught(signal):
    assert "DPA307" in rejected(observe(np.random.default_rng(4), 120, signal=signal))


def test_a_clip_missed_once_is_caught():
    rng = np.random.default_rng(5)
    included, participated = poisson(rng, 60)
    value = rng.normal(0, NOISE, participated.shape) + participated
    row, column = np.argwhere(participated)[0]
    value[row, column] += 15
    observations = StepObservations(value=value, participated=participated, included=included)
    assert "DPA307" in rejected(observations)


def test_a_canary_that_adds_less_is_no_violation():
    assert "DPA307" not in rejected(observe(np.random.default_rng(6), 200, signal=0.5))


def test_shuffling_under_a_poisson_claim_is_caught_by_counts():
    assert "DPA309" in rejected(observe(np.random.default_rng(7), 40, batches=shuffled))


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_wrong_rate_is_caught_both_ways(factor):
    observations = observe(
        np.random.default_rng(8), 60, batches=lambda rng, m: poisson(rng, m, rate=factor * RATE)
    )
    assert "DPA308" in rejected(observations)


def repeated_each_step(rng, shape):
    return np.broadcast_to(rng.normal(0, NOISE, shape[1:]), shape)


def repeated_with_period(rng, shape):
    return np.tile(rng.normal(0, NOISE, (shape[0] // 4, shape[1])), (4, 1))


def replayed_at_random(rng, shape):
    noise = rng.normal(0, NOISE, shape)
    noise[70] = noise[13]
    return noise


def lagged(rng, shape):
    noise = rng.normal(0, NOISE, (shape[0] + 1, shape[1]))
    return (noise[1:] + 0.3 * noise[:-1]) / math.sqrt(1.09)


@pytest.mark.parametrize("noise", [repeated_each_step, repeated_with_period, replayed_at_random, lagged])
def test_noise_that_repeats_over_steps_is_caught(noise):
    """The scale test passes (all but the first), the correlation does not."""
    assert "DPA304" in rejected(observe(np.random.default_rng(9), 120, noise=noise))


def shared_by_coordinates(rng, shape):
    return np.broadcast_to(rng.normal(0, NOISE, (shape[0], 1)), shape)


def partly_shared(rng, shape):
    own, shared = rng.normal(0, NOISE, shape), rng.normal(0, NOISE, (shape[0], 1))
    return math.sqrt(0.9) * own + math.sqrt(0.1) * shared


def tiled(rng, shape):
    return np.tile(rng.normal(0, NOISE, (shape[0], shape[1] // 2)), (1, 2))


@pytest.mark.parametrize("noise", [shared_by_coordinates, partly_shared])
def test_noise_that_repeats_over_coordinates_is_caught(noise):
    assert "DPA305" in rejected(observe(np.random.default_rng(10), 120, noise=noise))


def test_tiled_noise_is_caught_among_the_coordinates_left_out():
    def alternate(rng, canaries):
        included = np.arange(canaries) % 2 == 0
        return included, (rng.random((STEPS, canaries)) < RATE) & included

    assert "DPA305" in rejected(observe(np.random.default_rng(11), 120, noise=tiled, batches=alternate))


def test_workers_with_one_seed_are_caught():
    def alternate(rng, canaries):
        included = np.arange(canaries) % 2 == 0
        return included, (rng.random((STEPS, canaries)) < RATE) & included

    worker = np.repeat([0, 1], 60)
    found = rejected(observe(np.random.default_rng(12), 120, noise=tiled, batches=alternate, worker=worker))
    assert "DPA306" in found
    clean = observe(np.random.default_rng(12), 120, batches=alternate, worker=worker)
    assert not gate(clean).rejected


def test_clipping_after_the_noise_is_caught_by_its_shape():
    def clipped(rng, shape):
        # The same variance, lighter tails.
        noise = np.clip(rng.normal(0, NOISE, shape), -1.5 * NOISE, 1.5 * NOISE)
        return noise * NOISE / noise.std()

    assert "DPA303" in rejected(observe(np.random.default_rng(13), 400, noise=clipped))


def test_tests_state_their_power():
    tests = {test.rule: test for test in per_step_tests(observe(np.random.default_rng(14), 200), CLAIM)}
    # About 190 coordinates without a participant x 100 steps: 2.8 / sqrt(2 * 1.9e4).
    assert tests["DPA302"].detectable_effect == pytest.approx(0.0144, rel=0.05)
    assert tests["DPA308"].detectable_effect == pytest.approx(2.8 * math.sqrt(0.9 / 0.1 / 1e4), rel=0.1)


def test_no_noise_at_all_is_an_infinite_bound():
    observations = observe(np.random.default_rng(15), 50, noise=lambda rng, shape: np.zeros(shape))
    assert per_step_lower_bound(observations, CLAIM, delta=1e-5, confidence=0.95).lower == math.inf
    assert rejected(observations) >= {"DPA302", "DPA303", "DPA304"}


def test_hardly_any_noise_ends_the_search_with_a_bound():
    observations = observe(np.random.default_rng(16), 50, noise=lambda rng, shape: rng.normal(0, 1e-3, shape))
    assert 50 < per_step_lower_bound(observations, CLAIM, delta=1e-5, confidence=0.95).lower < math.inf


def test_a_canary_without_effect_shows_nothing():
    observations = observe(np.random.default_rng(17), 200, signal=0.0)
    assert per_step_lower_bound(observations, CLAIM, delta=1e-5, confidence=0.95).lower < 1.0


# What cannot be audited this way says so.


@pytest.mark.parametrize(
    ("claim", "match"),
    [
        (PrivacyClaim(scheme=Poisson(RATE), steps=STEPS), "noise_multiplier"),
        (PrivacyClaim(noise_multiplier=NOISE, steps=STEPS), "no scheme"),
        (PrivacyClaim(noise_multiplier=NOISE, scheme=Shuffle(10)), "shuffle"),
        (PrivacyClaim(noise_multiplier=NOISE, scheme=Poisson(RATE), adjacency="replace_one"), "replacing"),
    ],
)
def test_claims_of_another_mechanism_are_refused(claim, match):
    observations = observe(np.random.default_rng(18))
    with pytest.raises(ClaimError, match=match):
        per_step_tests(observations, claim)
    with pytest.raises(ClaimError, match=match):
        per_step_lower_bound(observations, claim, delta=1e-5, confidence=0.95)


def test_malformed_observations_are_refused():
    included, participated = np.array([True, False]), np.array([[True, False]])
    with pytest.raises(ValueError, match="do not fit"):
        StepObservations(value=np.zeros((2, 2)), participated=participated, included=included)
    with pytest.raises(ValueError, match="not finite"):
        StepObservations(value=np.array([[np.nan, 0.0]]), participated=participated, included=included)
    with pytest.raises(ValueError, match="left out of the training set participated"):
        StepObservations(value=np.zeros((1, 2)), participated=participated, included=~included)
    with pytest.raises(ValueError, match="tensor has shape"):
        StepObservations(
            value=np.zeros((1, 2)), participated=participated, included=included, tensor=np.zeros(3)
        )
    with pytest.raises(ValueError, match="no observations"):
        StepObservations(value=np.zeros((0, 2)), participated=np.zeros((0, 2)), included=included)
    everyone = StepObservations(
        value=np.zeros((1, 2)), participated=np.zeros((1, 2)), included=np.array([True, True])
    )
    with pytest.raises(ValueError, match="none of 2 canaries was left out"):
        per_step_tests(everyone, CLAIM)


# The likelihood ratio of all steps.


def test_likelihood_ratio_is_the_sum_of_log_density_ratios():
    rng = np.random.default_rng(19)
    value = rng.normal(0, 1.2, (300, 50))
    base = np.exp(-0.5 * (value / 1.2) ** 2)
    mixture = 0.9 * base + 0.1 * np.exp(-0.5 * ((value - 1) / 1.2) ** 2)
    found = log_likelihood_ratios(value, rate=0.1, noise_multiplier=1.2)
    np.testing.assert_allclose(found, np.log(mixture / base).sum(axis=0), rtol=1e-9)
    full = log_likelihood_ratios(value, rate=1.0, noise_multiplier=1.2)
    np.testing.assert_allclose(full, ((value - 0.5) / 1.44).sum(axis=0), rtol=1e-12)
    with pytest.raises(ValueError, match=r"rate = 0\.0"):
        log_likelihood_ratios(value, rate=0.0, noise_multiplier=1.2)


def test_likelihood_ratio_beats_the_plain_sum():
    from dpaudit.canary import ESTIMATORS
    from dpaudit.scores import CanaryScores

    rng = np.random.default_rng(20)
    observations = observe(rng, 5000)
    sharp = likelihood_ratio_scores(observations, rate=RATE, noise_multiplier=NOISE)
    plain = CanaryScores(included=observations.included, score=observations.value.sum(axis=0))
    bounds = [
        ESTIMATORS["normal_scores"](scores, delta=1e-5, confidence=0.95, claim=CLAIM).lower
        for scores in (sharp, plain)
    ]
    assert bounds[0] > 1.1 * bounds[1]
    assert 0.8 * EPSILON < bounds[0] < 1.05 * EPSILON


@pytest.mark.parametrize("count", [8, 30, 1000])
def test_the_shape_of_few_values_is_never_held_against_them_too_often(count: int) -> None:
    """The p-value is nowhere below the exact one, and near it for many values."""
    rng = np.random.default_rng(6)
    for stretch in (1.0, 1.3, 2.0):
        noise = rng.normal(0, stretch * NOISE, (count, 1))
        seen = StepObservations(
            value=np.column_stack((noise, noise)),
            participated=np.column_stack((np.zeros((count, 1), bool), np.ones((count, 1), bool))),
            included=np.array([False, True]),
        )
        exact = stats.kstest(noise.ravel(), stats.norm(scale=NOISE).cdf).pvalue
        found = noise_shape_test(seen, NOISE).p_value
        assert exact <= found
        assert count < 1000 or found < 1.1 * exact + 1e-12 or exact > 0.1


def test_a_tensor_that_shows_no_noise_is_left_out_of_the_test_of_its_scale() -> None:
    rng = np.random.default_rng(8)
    seen = StepObservations(
        value=rng.normal(0, NOISE, (50, 3)),
        participated=np.array([[False, False, True]] * 50),
        included=np.array([False, False, True]),
        tensor=np.array([0, 2, 5]),
    )
    assert noise_scale_test(seen, NOISE).p_value > 1e-3
    with pytest.raises(ValueError, match="nowhere seen alone"):
        noise_scale_test(replace(seen, participated=np.ones((50, 3), bool), included=np.ones(3, bool)), NOISE)
