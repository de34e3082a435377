"""The traps that show only in a training run, on small models and the reference engine; see test_traps.py."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from dpaudit.canary import ESTIMATORS, StepObservations, claim_gate, per_step_tests
from dpaudit.canary.family import GaussianFamily
from dpaudit.claim import PrivacyClaim
from dpaudit.dpsgd import (
    NoiseSource,
    Recipe,
    SmallData,
    black_box_scores,
    clipped_gradients,
    dead_feature_canary,
    make_private,
    train_many,
)
from dpaudit.scheme import Poisson

RATE, NOISE, CLIP, BATCH, REGISTER = 0.2, 1.2, 0.5, 10.0, 8
CLAIM = PrivacyClaim(scheme=Poisson(RATE), noise_multiplier=NOISE, steps=1)


class WithRegister(nn.Module):
    """A small network, and beside it a linear register in which every canary has a coordinate of its own."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        self.register = nn.Linear(REGISTER, 1, bias=False)

    def forward(self, inputs):
        return torch.cat([self.body(inputs[:, :4]), self.register(inputs[:, 4:])], 1)


def loss(outputs, targets):
    """Cross-entropy of records; a canary, of label -1, pulls at its register with a gradient of 10."""
    ordinary = nn.functional.cross_entropy(outputs[:, :3], targets.clamp(min=0), reduction="none")
    return torch.where(targets < 0, 10 * outputs[:, 3], ordinary)


def records(rng, count):
    inputs = torch.zeros(count, 4 + REGISTER, dtype=torch.float64)
    inputs[:, :4] = torch.from_numpy(rng.normal(size=(count, 4)))
    return inputs, torch.from_numpy(rng.integers(3, size=count))


def canaries(present):
    """One-hot inputs of the canaries that take part."""
    places = np.flatnonzero(present)
    inputs = torch.zeros(len(places), 4 + REGISTER, dtype=torch.float64)
    inputs[torch.arange(len(places)), 4 + places] = 1.0
    return inputs, torch.full((len(places),), -1)


def model():
    torch.manual_seed(0)
    return WithRegister().double()


def private(net, optimizer, noise_multiplier, seed=0):
    return make_private(
        net, optimizer, loss=loss, clip_norm=CLIP, noise_multiplier=noise_multiplier,
        expected_batch_size=BATCH, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


# 12. The scale of what is read back.


def read_back(kind, parts=1):
    """Train without noise, and give what was read of each canary, and whether it took part."""
    rng, net = np.random.default_rng(12), model()
    weight, rate = net.register.weight, 0.3
    options = {
        "sgd": {}, "momentum": {"momentum": 0.9}, "weight decay": {"weight_decay": 0.1},
    }  # fmt: skip
    if kind == "adamw":
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=rate, **options[kind])
    step, seen, taken, gradients, velocity = private(net, optimizer, 0.0), [], [], [], 0.0
    optimizer.register_step_pre_hook(lambda *_: gradients.append(weight.grad.clone()))
    for _ in range(6):
        present = rng.random(REGISTER) < 0.5
        inputs, targets = (torch.cat(both) for both in zip(records(rng, 6), canaries(present), strict=True))
        before = weight.detach().clone()
        for part in torch.arange(len(targets)).chunk(parts):
            step.accumulate(inputs[part], targets[part])
        step.step()
        if kind == "adamw":  # its update is no function of one gradient: a hook reads it
            update = gradients[-1]
        else:
            moved = (before - weight.detach()) / rate
            update = moved - options[kind].get("momentum", 0.0) * velocity
            update = update - options[kind].get("weight_decay", 0.0) * before
            velocity = moved
        seen.append((update * BATCH / CLIP).flatten().numpy())
        taken.append(present)
    return np.array(seen), np.array(taken)


@pytest.mark.parametrize("kind", ["sgd", "momentum", "weight decay", "adamw"])
@pytest.mark.parametrize("parts", [1, 3], ids=["whole batch", "accumulated"])
def test_trap_12_without_noise_a_register_reads_exactly_zero_or_one(kind, parts):
    seen, taken = read_back(kind, parts)
    np.testing.assert_allclose(seen, taken, atol=1e-12)


def test_trap_12_workers_add_up_to_the_same_reading():
    """Each worker clips its own shard; only their sum is what one canary adds at most once to."""
    rng, net = np.random.default_rng(12), model()
    present = np.array([True, False] * (REGISTER // 2))
    inputs, targets = (torch.cat(both) for both in zip(records(rng, 5), canaries(present), strict=True))
    shards = [
        clipped_gradients(net, inputs[rows], targets[rows], loss, clip_norm=CLIP).sums["register.weight"]
        for rows in torch.arange(len(targets)).chunk(2)
    ]
    np.testing.assert_allclose((sum(shards) / CLIP).flatten().numpy(), present, atol=1e-12)


# 13 to 15. Faults of the noise, seen in the coordinates of steps that drew no record.


class Faulty(NoiseSource):
    """Adds noise as a fault would have it."""

    def __init__(self, fault):
        super().__init__(torch.Generator().manual_seed(13))
        self.fault = fault

    def add(self, tensors, scale, factor=1.0):
        if self.fault == "same seed each step":
            self.generator.manual_seed(13)
        kept = {name: tensor for name, tensor in tensors.items() if name != self.fault}
        super().add(kept, scale * (BATCH if self.fault == "noise of a sum on a mean" else 1.0), factor)
        for name, tensor in tensors.items():
            if name == self.fault:
                tensor.mul_(factor)


def released(fault, steps=25, coordinates=3):
    """Released updates at a few coordinates of every parameter tensor."""
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    step, rows = private(net, optimizer, NOISE), []
    step.noise = Faulty(fault)
    names = [name for name, _ in net.named_parameters()]
    optimizer.register_step_pre_hook(
        lambda *_: rows.append([p.grad.flatten()[:coordinates].clone() for p in net.parameters()])
    )
    for _ in range(steps):
        step.step()
    value = torch.stack([torch.cat(row) for row in rows]).numpy() * BATCH / CLIP
    return names, StepObservations(
        value=value,
        participated=np.zeros(value.shape, bool),
        included=np.zeros(value.shape[1], bool),
        tensor=np.repeat(np.arange(len(names)), coordinates),
    )


def rejected(observations):
    return {test.rule for test in claim_gate(per_step_tests(observations, CLAIM)).tests if test.rejected}


TENSORS = [name for name, _ in WithRegister().named_parameters()]


@pytest.mark.parametrize("victim", TENSORS)
def test_trap_13_noise_missing_on_any_one_tensor_is_caught_by_a_canary_in_it(victim):
    names, observations = released(victim)
    assert "DPA302" in rejected(observations)
    # Canaries in all the other tensors see nothing.
    others = np.asarray(observations.tensor) != names.index(victim)
    elsewhere = StepObservations(
        value=observations.value[:, others],
        participated=observations.participated[:, others],
        included=observations.included[others],
    )
    assert not rejected(elsewhere)


def test_trap_13_a_faithful_engine_passes():
    assert not rejected(released("none")[1])


def test_trap_14_a_generator_seeded_anew_each_step_passes_for_the_right_scale_only():
    tests = {test.rule: test for test in per_step_tests(released("same seed each step", 60)[1], CLAIM)}
    assert tests["DPA304"].p_value < 1e-6
    one_step = released("same seed each step", 1)[1]
    assert next(t.p_value for t in per_step_tests(one_step, CLAIM) if t.rule == "DPA302") > 0.01


def test_trap_15_too_much_noise_is_a_fault_too():
    tests = {test.rule: test for test in per_step_tests(released("noise of a sum on a mean", 2)[1], CLAIM)}
    assert tests["DPA302"].p_value < 1e-6
    assert tests["DPA302"].effect == pytest.approx(BATCH - 1, rel=0.4)


@pytest.mark.parametrize("drop_last", [False, True])
def test_trap_15_epochs_with_a_short_last_batch_are_no_poisson_batches(drop_last):
    """Counts over canaries vary too little, those over steps perhaps too much: both sides are looked at."""
    rng, canaries, batch = np.random.default_rng(15), 57, 10
    rows = []
    for _ in range(20):
        order = rng.permutation(canaries)
        for start in range(0, canaries, batch):
            chosen = order[start : start + batch]
            if len(chosen) == batch or not drop_last:
                rows.append(np.isin(np.arange(canaries), chosen))
    participated = np.array(rows)
    included = np.arange(canaries) > 0
    participated[:, 0] = False
    observations = StepObservations(
        value=rng.normal(0, NOISE, participated.shape) + participated,
        participated=participated,
        included=included,
    )
    claim = PrivacyClaim(scheme=Poisson(batch / canaries), noise_multiplier=NOISE, steps=len(rows))
    tests = {test.rule: test for test in per_step_tests(observations, claim)}
    assert tests["DPA309"].p_value < 1e-3


# 16. A clip probe whose gradient is below the clip norm.


@pytest.mark.parametrize("scale", [1e-3, 0.1, 0.5, 1.0, 1e2, 1e6])
def test_trap_16_a_clip_probe_must_exceed_the_clip_norm(scale):
    net = nn.Linear(3, 1, bias=False).double()
    inputs = torch.tensor([[0.6, 0.0, 0.8]], dtype=torch.float64) * scale

    def pull(outputs, targets):
        return outputs[:, 0]

    reading = (
        clipped_gradients(net, inputs, torch.zeros(1), pull, clip_norm=CLIP).sums["weight"].norm().item()
    )
    forgotten = (
        clipped_gradients(net, inputs, torch.zeros(1), pull, clip_norm=1e9).sums["weight"].norm().item()
    )
    assert reading == pytest.approx(min(scale, CLIP), rel=1e-12)
    # Below the clip norm a missing clip reads the same: such a probe proves nothing.
    assert (forgotten == pytest.approx(reading)) == (scale <= CLIP)


def test_trap_16_gradients_that_are_zero_or_not_finite_add_exactly_nothing():
    net = nn.Linear(3, 1, bias=False).double()
    inputs = torch.zeros(4, 3, dtype=torch.float64)
    inputs[1, 0], inputs[2, 1], inputs[3, 2] = math.nan, math.inf, 10.0
    found = clipped_gradients(net, inputs, torch.zeros(4), lambda out, _: out[:, 0], clip_norm=CLIP)
    np.testing.assert_allclose(found.sums["weight"].numpy(), [[0.0, 0.0, CLIP]])
    assert found.refused.tolist() == [False, True, True, False]


# 19. Canaries that interfere with nothing do not test what depends on the data.


def test_trap_19_clipping_tensor_by_tensor_is_seen_by_a_live_canary_and_not_by_a_register():
    """The register's gradient lives in one tensor; a record that moves five may add sqrt(5) clip norms."""
    rng, net = np.random.default_rng(19), model()
    groups = dict(zip(TENSORS, TENSORS, strict=True))
    live, live_label = records(rng, 1)

    def adds(inputs, targets):
        found = clipped_gradients(
            net, inputs, targets, loss, clip_norm=dict.fromkeys(TENSORS, CLIP / 10), groups=groups
        )
        return math.sqrt(sum(total.square().sum().item() for total in found.sums.values())) / (CLIP / 10)

    readings = {"register": adds(*canaries(np.arange(REGISTER) == 0)), "live": adds(live, live_label)}
    assert readings["register"] == pytest.approx(1.0)
    assert readings["live"] > 1.9
    found = {}
    for name, reading in readings.items():
        participated = np.repeat([[False, True]], 200, axis=0)
        observations = StepObservations(
            value=rng.normal(0, NOISE, (200, 2)) + reading * participated,
            participated=participated,
            included=np.array([False, True]),
        )
        claim = PrivacyClaim(scheme=Poisson(1.0), noise_multiplier=NOISE, steps=200)
        tests = {test.rule: test.p_value for test in per_step_tests(observations, claim)}
        found[name] = tests["DPA307"]
    assert found["register"] > 0.01
    assert found["live"] < 1e-3


def test_trap_19_an_input_space_canary_sees_a_clip_that_was_forgotten():
    """The final loss alone: no hook, no coordinate, only what was trained on."""
    rng = np.random.default_rng(20)
    features = np.hstack((rng.random((20, 3)), np.zeros((20, 2))))
    data = SmallData(
        features=features,
        labels=rng.integers(3, size=20),
        canary=dead_feature_canary(features, norm=5.0),
        canary_label=0,
        classes=3,
    )
    claim = PrivacyClaim(scheme=Poisson(1.0), noise_multiplier=8.0, steps=10)
    included, lowers = rng.random(400) < 0.5, []
    for clip in (1.0, 100.0):
        recipe = Recipe(
            scheme=Poisson(1.0), steps=10, noise_multiplier=8.0 / clip, learning_rate=0.2,
            expected_batch_size=20.0, clip_norm=clip,
        )  # fmt: skip
        scores = black_box_scores(data, train_many(data, recipe, included, seed=19), included)
        found = ESTIMATORS["normal_scores"](scores, delta=1e-5, confidence=0.999, claim=claim)
        lowers.append(found.lower)
    claimed = GaussianFamily().epsilon(math.log(math.sqrt(10) / 8), 1e-5)[0]
    assert lowers[0] < claimed < lowers[1]
