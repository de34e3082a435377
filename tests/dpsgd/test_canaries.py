"""Canaries in a training run: alone where they live, read back exactly, tossed last."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dpaudit.dpsgd import clipped_gradients, make_private
from dpaudit.dpsgd.canaries import (
    FAULTS,
    INPUT_KINDS,
    AttachedModel,
    Recorder,
    RunPlan,
    find_sites,
    lay_out,
    make_input_canaries,
    train_reference,
)
from dpaudit.dpsgd.canaries.clip_probe import largest_contribution
from dpaudit.dpsgd.canaries.data import LabelledData, load_data
from dpaudit.dpsgd.canaries.faults import FaultyNoise
from dpaudit.dpsgd.canaries.layout import MODEL, REGISTER
from dpaudit.dpsgd.canaries.pipeline import train_pipeline
from dpaudit.dpsgd.canaries.recorded_run import RecordedRun
from dpaudit.dpsgd.canaries.reference_run import cross_entropy
from dpaudit.dpsgd.canaries.setup import Streams, attach, set_up
from dpaudit.dpsgd.canaries.sites import out_of_reach
from dpaudit.dpsgd.clipping.engine import ClippingEngine
from dpaudit.errors import DpauditError

pytest.importorskip("sklearn")
PLAN = RunPlan(
    scheme={"name": "poisson", "rate": 0.1},
    rate=0.1,
    noise_multiplier=0.0,
    steps=4,
    registers=60,
    per_tensor=16,
    seed=11,
)


class Tokens(nn.Module):
    """Embedding, norms, a convolution with everything odd, tied nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.norm = nn.LayerNorm(6)
        self.group = nn.GroupNorm(2, 4)
        self.conv = nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
        self.out = nn.Linear(4 * 3 * 4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.embedding(inputs.long()))
        image = torch.stack([hidden, hidden.flip(1)], 1)
        return self.out(self.group(self.conv(image)).relu().flatten(1))


def every_canary(model: nn.Module, shape: tuple[int, ...], registers: int = 9):
    """Attach a canary to every coordinate that can be reached, all of them included."""
    sites = find_sites(model)
    layout = lay_out(
        sites,
        registers=registers,
        per_tensor=10_000,
        rng=np.random.default_rng(3),
        watched=out_of_reach(model),
    )
    layout = replace(layout, included=layout.tossed)
    attached = AttachedModel(model, layout, sites, shape=shape, real=0)
    count = int(layout.included.sum())
    rows = torch.zeros(count, math.prod(shape) + 1)
    rows[:, -1] = torch.arange(count)
    return attached, layout, rows, torch.ones(count, dtype=torch.long)


@pytest.mark.parametrize("clipping", ["bk_mix_opt", "ghost", "per_sample"])
def test_each_canary_adds_one_clip_norm_at_its_own_coordinate(clipping: str) -> None:
    torch.manual_seed(0)
    attached, layout, rows, classes = every_canary(Tokens(), (6,))
    assert {site.tensor for site in find_sites(Tokens())} == {
        "embedding.weight", "norm.bias", "group.bias", "conv.weight", "conv.bias", "out.weight", "out.bias",
    }  # fmt: skip
    names = {id(parameter): name for name, parameter in attached.tensors}
    own = {name: names[id(parameter)] for name, parameter in attached.named_parameters()}
    for number in np.random.default_rng(0).choice(len(rows), 25, replace=False):
        one = slice(int(number), int(number) + 1)
        found = clipped_gradients(
            attached, rows[one], classes[one], cross_entropy, clip_norm=1.0, clipping=clipping
        )
        canary = np.flatnonzero(layout.included)[number]
        assert float(found.norms[0]) == pytest.approx(layout.scale[canary], rel=1e-4)
        for name, total in found.sums.items():
            expected = torch.zeros(total.numel())
            if own[name] == layout.tensors[layout.tensor[canary]]:
                expected[layout.coordinate[canary]] = 1.0
            assert torch.allclose(total.flatten(), expected, atol=2e-5)


def test_ordinary_records_are_untouched_by_what_is_plugged_in() -> None:
    torch.manual_seed(1)
    model = Tokens()
    rows = torch.randint(0, 7, (5, 6)).float()
    classes = torch.randint(0, 3, (5,))
    bare = clipped_gradients(model, rows, classes, cross_entropy, clip_norm=0.5)
    before = model(rows)
    attached, *_ = every_canary(model, (6,))
    attached.real = 5
    numbered = torch.cat([rows, torch.arange(5.0)[:, None]], 1)
    assert torch.equal(attached(numbered), before)
    found = clipped_gradients(attached, numbered, classes, cross_entropy, clip_norm=0.5)
    names = {id(parameter): name for name, parameter in attached.tensors}
    for name, parameter in attached.named_parameters():
        original = names[id(parameter)]
        if original != REGISTER:
            assert torch.allclose(found.sums[name], bare.sums[original.removeprefix(MODEL)], atol=1e-6)
        else:
            assert not found.sums[name].any()


def test_a_silent_record_has_no_gradient() -> None:
    attached, *_ = every_canary(nn.Linear(4, 3), (4,))
    attached.real, attached.silent = 5, True
    rows = torch.cat([torch.rand(5, 4), torch.arange(5.0)[:, None]], 1)
    found = clipped_gradients(attached, rows, torch.zeros(5).long(), cross_entropy, clip_norm=1.0)
    assert not any(total.any() for total in found.sums.values())


@pytest.mark.parametrize(
    ("optimizer", "read"),
    [("sgd", "gradient"), ("sgd", "parameters"), ("momentum", "gradient"), ("momentum", "parameters"),
     ("adamw", "gradient")],
)  # fmt: skip
def test_without_noise_every_value_is_zero_or_one(optimizer: str, read: str) -> None:
    run = train_reference(replace(PLAN, optimizer=optimizer, read=read), 0)
    assert run.participated.any()
    assert run.participated[:, ~run.included].sum() == 0
    # What parameters moved by is a small difference of larger numbers in single precision.
    assert np.abs(run.value - run.participated).max() < (1e-4 if read == "gradient" else 5e-3)


def test_accumulated_micro_batches_read_back_the_same() -> None:
    streams = Streams.of(5, 0)
    setup, bare = set_up(PLAN, streams)
    model = attach(setup, bare, silent=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    private = make_private(
        model, optimizer, loss=cross_entropy, clip_norm=1.0, noise_multiplier=0.0, expected_batch_size=7.0
    )
    recorder = Recorder(model=model, layout=setup.layout, clip_norm=1.0, divisor=7.0, real=setup.real)
    recorder.watch(optimizer)
    for numbers in (torch.arange(0, 30), torch.arange(setup.num_records - 20, setup.num_records)):
        recorder.saw(numbers)
        private.accumulate(setup.rows[numbers], setup.targets[numbers])
    private.step()
    private.step()  # an empty batch is a step
    assert recorder.participated().sum(axis=1).tolist() == [20, 0]
    assert np.allclose(recorder.values, recorder.participated(), atol=1e-4)


def test_adamw_cannot_be_undone_from_parameters() -> None:
    with pytest.raises(DpauditError, match="AdamW"):
        train_reference(replace(PLAN, optimizer="adamw", read="parameters"), 0)


def test_a_run_is_made_again_from_its_seed_and_another_one_is_not_the_same() -> None:
    plan = replace(PLAN, noise_multiplier=1.0, inputs=3)
    one, again, other = train_reference(plan, 0), train_reference(plan, 0), train_reference(plan, 1)
    assert np.array_equal(one.value, again.value)
    assert np.array_equal(one.included, again.included)
    assert not np.array_equal(one.included, other.included)
    assert plan.fingerprint(0) == replace(plan).fingerprint(0)
    changed = [replace(plan, steps=5), replace(plan, fault="half_noise"), replace(plan, sources={"a": "b"})]
    assert len({plan.fingerprint(0), plan.fingerprint(1), *(one.fingerprint(0) for one in changed)}) == 5


def test_a_recorded_run_survives_its_file(tmp_path) -> None:
    run = train_reference(replace(PLAN, inputs=2), 0)
    path = tmp_path / "run.npz"
    path.write_bytes(run.to_bytes())
    back = RecordedRun.load(path)
    for name in ("value", "participated", "tensors", "offsets", "input_kind"):
        assert np.array_equal(getattr(run, name), getattr(back, name))
    assert (back.num_records, back.clipped_most) == (run.num_records, run.clipped_most)
    path.write_bytes(run.to_bytes()[:-200])
    with pytest.raises((OSError, ValueError)):
        RecordedRun.load(path)


def test_coins_are_fair_and_the_last_to_be_drawn() -> None:
    sites = find_sites(nn.Linear(30, 30))
    included, coordinates = [], set()
    for seed in range(60):
        one = lay_out(sites, registers=100, per_tensor=100, rng=np.random.default_rng(seed))
        assert one.tossed.all()
        assert len({*zip(one.tensor.tolist(), one.coordinate.tolist(), strict=True)}) == one.canaries
        included.append(one.included)
        coordinates.add(tuple(one.coordinate))
    share = np.mean(included)
    assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(np.size(included))
    assert len(coordinates) == 60
    with pytest.raises(ValueError, match="no canaries"):
        lay_out((), registers=0, per_tensor=0, rng=np.random.default_rng(0))


def test_the_clip_probe_sees_every_wrong_clip() -> None:
    setup, bare = set_up(PLAN, Streams.of(2, 0))
    model = attach(setup, bare, silent=False)

    def engine(clip_norm: float) -> ClippingEngine:
        return ClippingEngine(model, cross_entropy, clip_norm=clip_norm)

    def only_below(inputs, targets):
        found = engine(1.0)(inputs, targets)
        return engine(1e9)(inputs, targets) if found.norms.max() > 9e3 else found

    def probe(called) -> float:
        return largest_contribution(called, setup, model, 1.0)

    assert probe(engine(1.0)) == pytest.approx(1.0, abs=2e-4)
    assert probe(engine(1.1)) == pytest.approx(1.1, abs=2e-4)
    assert probe(engine(1e9)) > 9e3
    assert probe(only_below) > 9e3  # a gradient of a thousand clip norms would not have shown it


@pytest.mark.parametrize("kind", INPUT_KINDS)
def test_input_canaries(kind) -> None:
    data = load_data("digits")
    rest, made = make_input_canaries(data, 12, (kind,), np.random.default_rng(0))
    assert set(made.kind) == {kind}
    assert len(made.labels) == (10 if kind == "blank" else 12)
    assert made.labels.min() >= 0
    assert made.labels.max() < data.classes
    assert len(rest.labels) == len(data.labels) - (12 if kind == "natural" else 0)
    known = {row.tobytes() for row in rest.features}
    inside = [row.tobytes() in known for row in made.features]
    assert all(inside) if kind == "mislabelled" else not any(inside)
    if kind == "mislabelled":
        labels = {row.tobytes(): label for row, label in zip(data.features, data.labels, strict=True)}
        assert all(
            labels[row.tobytes()] != label for row, label in zip(made.features, made.labels, strict=True)
        )
    if kind == "crafted":
        assert (made.features != 0).sum(axis=1).tolist() == [1] * 12


def test_live_records_are_taken_off_and_leave_only_noise() -> None:
    run = train_reference(replace(PLAN, noise_multiplier=2.0, steps=30, per_tensor=64), 0)
    for index in range(len(run.tensors)):
        here = run.tensor == index
        noise = run.value[:, here][~run.participated[:, here]]
        assert noise.std() == pytest.approx(2.0, rel=5 / math.sqrt(2 * len(noise)))
    assert np.isfinite(run.residuals).all()
    assert abs(run.residuals.mean()) < 5 * 2.0 / math.sqrt(30)
    assert run.residuals.std() == pytest.approx(2.0, rel=0.6)


def test_a_fault_in_the_noise_is_where_it_was_put() -> None:
    def noise(fault, silent=frozenset()):
        source = FaultyNoise(torch.Generator().manual_seed(1), fault, batch_size=8.0, silent=silent)
        tensors = {"a": torch.zeros(4000), "b": torch.zeros(4000)}
        source.add(tensors, 3.0)
        again = {"a": torch.zeros(4000), "b": torch.zeros(4000)}
        source.add(again, 3.0)
        return tensors, again

    factors = {"half_noise": 0.5, "noise_over_batch": 0.125, "noise_times_batch": 8.0, None: 1.0}
    for fault, factor in factors.items():
        assert noise(fault)[0]["a"].std() == pytest.approx(3.0 * factor, rel=0.06)
    one, again = noise("same_noise")
    assert torch.equal(one["b"], again["b"])
    one, again = noise("layer_without_noise", frozenset(["b"]))
    assert one["a"].any()
    assert not one["b"].any()
    assert not torch.equal(one["a"], again["a"])
    assert set(FAULTS) >= set(factors) - {None}


def test_what_can_be_wrong_with_data_and_plans(tmp_path) -> None:
    with pytest.raises(DpauditError, match="unknown data"):
        load_data("cifar")
    with pytest.raises(DpauditError, match="cannot read"):
        load_data(str(tmp_path / "none.npz"))
    labels = np.arange(9) % 3
    np.savez(tmp_path / "some.npz", features=np.ones((9, 4)), labels=labels)
    assert load_data(str(tmp_path / "some.npz")).classes == 3
    with pytest.raises(ValueError, match="two classes"):
        LabelledData(np.zeros((3, 2), np.float32), np.zeros(3, np.int64))
    for change in ({"steps": 0}, {"registers": 0, "per_tensor": 0}, {"clip_norm": 0.0}, {"fault": "typo"}):
        with pytest.raises(ValueError, match=next(iter(change)).split("_")[0]):
            replace(PLAN, **change)
    np.savez(tmp_path / "odd.npz", features=np.ones((9, 5)), labels=labels)
    with pytest.raises(DpauditError, match="square"):
        train_reference(replace(PLAN, model="cnn", data=str(tmp_path / "odd.npz")), 0)


def test_a_training_that_does_not_keep_to_the_protocol() -> None:
    plan = replace(PLAN, records="silent")

    def attached_twice(canaries):
        canaries.attach(nn.Linear(64, 10))
        canaries.attach(nn.Linear(64, 10))

    def never_watched(canaries):
        canaries.attach(nn.Linear(64, 10))

    def too_short(canaries):
        model = canaries.attach(nn.Linear(64, 10))
        canaries.watch(torch.optim.SGD(model.parameters(), lr=0.1), divisor=1.0)

    for train, message in (
        (lambda canaries: canaries.dataset, "no model is attached"),
        (attached_twice, "already"),
        (never_watched, "did not call"),
        (too_short, "0 optimizer steps"),
    ):
        with pytest.raises(DpauditError, match=message):
            train_pipeline(plan, 0, train)
