"""Many small models at once: the same DP-SGD as the reference engine, and the black-box audit by it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dpaudit.canary import ESTIMATORS
from dpaudit.canary.family import GaussianFamily, SubsampledGaussianFamily
from dpaudit.claim import PrivacyClaim
from dpaudit.dpsgd import (
    Recipe,
    SmallData,
    black_box_scores,
    clipped_gradients,
    dead_feature_canary,
    train_many,
)
from dpaudit.dpsgd.many_models import _STREAM
from dpaudit.dpsgd.many_models_kernel import clipped_sum, poisson_batch, shuffle
from dpaudit.scheme import FixedSize, Poisson, Shuffle


def digits_like(records=40, features=7, classes=4, seed=0):
    """Non-negative features, the last two dead, the one before a bias."""
    rng = np.random.default_rng(seed)
    rows = rng.random((records, features))
    rows[:, -3:] = (1.0, 0.0, 0.0)
    return SmallData(
        features=rows,
        labels=rng.integers(classes, size=records),
        canary=dead_feature_canary(rows),
        canary_label=1,
        classes=classes,
    )


def recipe(**changes):
    values = {
        "scheme": Poisson(0.25), "steps": 6, "noise_multiplier": 0.0, "learning_rate": 3.0,
        "expected_batch_size": 10.0, "clip_norm": 0.5, "double": True,
    }  # fmt: skip
    return Recipe(**(values | changes))


def loss(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def reference_sum(rows, labels, weights, clip_norm):
    """The clipped sum of the reference engine, one record at a time."""
    model = nn.Linear(*weights.shape, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weights.T.copy()))
    found = clipped_gradients(
        model,
        torch.from_numpy(rows),
        torch.from_numpy(labels),
        loss,
        clip_norm=clip_norm,
        clipping="per_sample",
    )
    return found.sums["weight"].numpy().T


@pytest.mark.parametrize("clip_norm", [1e-3, 0.7, 1e3])
def test_clipped_sum_is_that_of_the_reference_engine(clip_norm):
    rng = np.random.default_rng(1)
    rows, labels = rng.normal(size=(30, 9)), rng.integers(5, size=30)
    rows[3] = 0.0
    weights, total = rng.normal(size=(9, 5)), np.empty((9, 5))
    clipped_sum(rows, labels, weights, clip_norm, total)
    np.testing.assert_allclose(total, reference_sum(rows, labels, weights, clip_norm), rtol=1e-10, atol=1e-13)


def replayed(data, plan, included, model, seed):
    """Train one model with the reference engine on the batches that the stream gives."""
    stream = np.random.SeedSequence(seed, spawn_key=(_STREAM, model))
    rng = np.random.Generator(np.random.SFC64(stream))
    rows = np.vstack((data.features, data.canary)) if included else data.features
    labels = np.append(data.labels, data.canary_label) if included else data.labels
    weights = np.zeros((rows.shape[1], data.classes))
    order, used = np.arange(len(rows)), len(rows)
    for _ in range(plan.steps):
        if isinstance(plan.scheme, Poisson):
            batch = np.empty(len(rows), np.int64)
            batch = batch[: poisson_batch(rng, len(rows), plan.scheme.rate, batch)]
        else:
            if used >= len(rows):
                shuffle(rng, order)
                used = 0
            batch = order[used : used + plan.scheme.batch_size].copy()
            used += len(batch)
        total = np.zeros_like(weights)
        if len(batch):
            total = reference_sum(rows[batch], labels[batch], weights, plan.clip_norm)
        total += plan.noise_multiplier * plan.clip_norm * rng.standard_normal(weights.shape)
        weights -= plan.learning_rate / plan.expected_batch_size * total
    return weights


@pytest.mark.parametrize("scheme", [Poisson(0.25), Poisson(1.0), Poisson(0.01), Shuffle(16)])
@pytest.mark.parametrize("noise", [0.0, 1.3])
def test_training_is_that_of_the_reference_engine(scheme, noise):
    data, plan, included = digits_like(), recipe(scheme=scheme, noise_multiplier=noise), [True, False, True]
    found = train_many(data, plan, included, seed=5, first=2)
    for model, one in enumerate(included):
        np.testing.assert_allclose(
            found[model], replayed(data, plan, one, 2 + model, 5), rtol=1e-10, atol=1e-12
        )


def test_single_precision_is_double_precision_rounded():
    data, included = digits_like(), np.arange(20) % 2 == 0
    single = train_many(data, recipe(double=False, noise_multiplier=0.5), included, seed=1)
    double = train_many(data, recipe(noise_multiplier=0.5), included, seed=1)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-5)


def test_no_model_depends_on_how_the_work_was_cut():
    data, plan = digits_like(), recipe(noise_multiplier=1.0)
    included = np.random.default_rng(0).random(45) < 0.5
    whole = train_many(data, plan, included, seed=3)
    parts = [train_many(data, plan, included[a : a + 15], seed=3, first=a) for a in (0, 15, 30)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(whole, train_many(data, plan, included, seed=3, workers=2))
    assert not np.array_equal(whole[0], train_many(data, plan, included, seed=4)[0])


def test_noise_is_gaussian_of_the_stated_scale_and_fresh_everywhere():
    from scipy.stats import kstest

    still = SmallData(
        features=np.zeros((3, 4)), labels=[0, 1, 2], canary=np.zeros(4), canary_label=0, classes=3
    )
    plan = recipe(noise_multiplier=2.0, clip_norm=1.5, learning_rate=10.0, steps=4, double=False)
    found = train_many(still, plan, np.zeros(500, bool), seed=7).reshape(500, -1).astype(float)
    # Four steps of noise 2 * 1.5, each taken 10 / 10 times.
    assert kstest(found.ravel() / (3.0 * 2.0), "norm").pvalue > 1e-3
    correlation = np.corrcoef(found.T) - np.eye(12)
    assert np.abs(correlation).max() < 4.5 / math.sqrt(500)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.97])
def test_poisson_batches_are_independent_coins(rate):
    rng, draws, batch = np.random.default_rng(2), np.zeros((4000, 25)), np.empty(25, np.int64)
    for row in draws:
        size = poisson_batch(rng, 25, rate, batch)
        assert (np.diff(batch[:size]) > 0).all()
        row[batch[:size]] = 1
    deviation = math.sqrt(rate * (1 - rate) / 4000)
    assert np.abs(draws.mean(axis=0) - rate).max() < 4.5 * deviation
    assert np.abs(np.corrcoef(draws.T) - np.eye(25)).max() < 5 / math.sqrt(4000)
    assert draws.sum(axis=1).var() == pytest.approx(25 * rate * (1 - rate), rel=0.12)


def test_tiny_rates_end():
    assert poisson_batch(np.random.default_rng(0), 5, 1e-300, np.empty(5, np.int64)) == 0


def test_shuffled_order_is_uniform():
    rng, counts = np.random.default_rng(3), np.zeros((5, 5))
    for _ in range(5000):
        order = np.arange(5)
        shuffle(rng, order)
        counts[np.arange(5), order] += 1
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert np.abs(counts - 1000).max() < 4.5 * math.sqrt(800)


def test_crafted_input_lives_where_every_record_is_zero():
    data = digits_like()
    assert np.linalg.norm(data.canary) == pytest.approx(2.0)
    assert (data.features @ data.canary == 0).all()
    with pytest.raises(ValueError, match="no feature is zero"):
        dead_feature_canary(np.ones((3, 2)))


def test_scores_are_minus_the_loss_on_the_canary():
    data, included = digits_like(), [True, False, True]
    weights = train_many(data, recipe(noise_multiplier=1.0), included, seed=0)
    found = black_box_scores(data, weights, included)
    outputs = torch.from_numpy(np.einsum("d,mdk->mk", data.canary, weights))
    expected = -loss(outputs, torch.full((3,), data.canary_label)).numpy()
    np.testing.assert_allclose(found.score, expected, rtol=1e-12)
    assert found.runs == 3
    assert found.included.tolist() == included


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"scheme": FixedSize(10)}, "FixedSize"),
        ({"scheme": Shuffle(10, drop_last=True)}, "drop_last=True"),
        ({"scheme": Shuffle(10, reshuffled_each_epoch=False)}, "reshuffle"),
        ({"steps": 0}, "steps = 0"),
        ({"noise_multiplier": -1.0}, "noise_multiplier"),
        ({"noise_multiplier": math.nan}, "noise_multiplier"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"learning_rate": math.inf}, "learning_rate"),
    ],
)
def test_recipes_that_are_none_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        recipe(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"features": np.zeros(3)}, "do not fit"),
        ({"canary": np.zeros(3)}, "do not fit"),
        ({"features": np.full((2, 2), np.nan)}, "finite"),
        ({"canary_label": 2}, "labels run"),
        ({"labels": [0, -1]}, "labels run"),
    ],
)
def test_data_that_do_not_fit_are_refused(changes, match):
    values = {
        "features": np.zeros((2, 2)),
        "labels": [0, 1],
        "canary": np.zeros(2),
        "canary_label": 0,
        "classes": 2,
    }
    with pytest.raises(ValueError, match=match):
        SmallData(**(values | changes))


def audit(data, plan, models, seed, confidence=0.95, name="normal_scores"):
    included = np.random.default_rng((seed, 1)).random(models) < 0.5
    scores = black_box_scores(data, train_many(data, plan, included, seed=seed), included)
    claim = PrivacyClaim(scheme=plan.scheme, noise_multiplier=plan.noise_multiplier, steps=plan.steps)
    return ESTIMATORS[name](scores, delta=1e-5, confidence=confidence, claim=claim).lower


@pytest.mark.parametrize(
    ("rate", "steps", "noise", "least"), [(1.0, 10, 2.0, 0.75), (0.1, 50, 0.8, 0.45)], ids=["full", "poisson"]
)
def test_final_losses_of_a_crafted_input_show_much_of_epsilon(rate, steps, noise, least):
    data = digits_like()
    plan = recipe(
        scheme=Poisson(rate), steps=steps, noise_multiplier=noise, clip_norm=1.0, learning_rate=0.5,
        expected_batch_size=40 * rate, double=False,
    )  # fmt: skip
    family = GaussianFamily() if rate == 1 else SubsampledGaussianFamily(rate, steps)
    leakage = math.log(math.sqrt(steps) / noise) if rate == 1 else -math.log(noise)
    epsilon = family.epsilon(leakage, 1e-5)[0]
    assert least * epsilon < audit(data, plan, 3000, seed=1) < 1.03 * epsilon


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "noise"), [(1.0, 3.0), (0.3, 0.9)], ids=["full", "poisson"])
def test_black_box_bound_holds_over_real_trainings(rate, noise):
    """At full batches final losses are nearly the best attack, so this is where the error is used up."""
    data = digits_like(records=10)
    plan = recipe(
        scheme=Poisson(rate), steps=8, noise_multiplier=noise, clip_norm=1.0, learning_rate=0.2,
        expected_batch_size=10 * rate, double=False,
    )  # fmt: skip
    family = GaussianFamily() if rate == 1 else SubsampledGaussianFamily(rate, 8)
    leakage = math.log(math.sqrt(8) / noise) if rate == 1 else -math.log(noise)
    epsilon = family.epsilon(leakage, 1e-5)[0]
    above = sum(audit(data, plan, 150, seed) > epsilon for seed in range(1000))
    assert above / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
