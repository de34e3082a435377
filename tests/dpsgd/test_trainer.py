"""Noise, samplers, the private update, the loop and its checkpoints."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

import dpaudit
from dpaudit.dpsgd import (
    BatchSampler,
    NoiseSource,
    PrivateTrainer,
    UnsupportedModelError,
    clipped_gradients,
    make_private,
    secret_generator,
)
from dpaudit.dpsgd.noise import secure_normal
from dpaudit.dpsgd.physical import physical_batches
from dpaudit.errors import DpauditError
from dpaudit.interval import EpsilonInterval
from dpaudit.scheme import (
    BallsInBins,
    FixedSize,
    Poisson,
    Sequential,
    Shuffle,
    TruncatedPoisson,
    WeightedPoisson,
)

from .zoo import MODES

SCHEMES = [
    Poisson(0.1), TruncatedPoisson(0.2, 7), BallsInBins(5), BallsInBins(5, False), FixedSize(6),
    FixedSize(6, True), Shuffle(8), Shuffle(8, False), Shuffle(8, True, True), Sequential(8),
]  # fmt: skip


def seeded(number):
    return torch.Generator().manual_seed(number)


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def data(records=40):
    torch.manual_seed(3)
    return torch.randn(records, 4, dtype=torch.float64), torch.randint(3, (records,))


def private(model=None, sigma=1.0, noise=9, optimizer=None, **options):
    if model is None:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 3)).double()
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    generator = None if noise is None else seeded(noise)
    return make_private(
        model, optimizer, loss=loss, clip_norm=0.5, noise_multiplier=sigma, expected_batch_size=8,
        generator=generator, **options,
    )  # fmt: skip


def trainer(scheme, sigma=1.0, **options):
    inputs, targets = data()
    update = private(sigma=sigma, **{k: options.pop(k) for k in ("noise_ahead", "clipping") if k in options})
    sampler = BatchSampler(scheme, len(inputs), seeded(4))
    return PrivateTrainer(
        update,
        sampler,
        lambda numbers: (inputs[numbers], targets[numbers]),
        for_audit=sampler.audit_only,
        **options,
    )


# noise


@pytest.mark.parametrize("generator", [seeded(0), None])
def test_noise_is_normal_with_the_right_scale(generator):
    tensors = {"a": torch.zeros(300, 200), "b": torch.zeros(7), "c": torch.zeros(0, 3)}
    NoiseSource(generator).add(tensors, 3.0)
    sample = torch.cat([t.flatten() for t in tensors.values()]).numpy() / 3.0
    assert stats.kstest(sample, "norm").pvalue > 1e-9  # one of the sources is never the same
    assert abs(np.corrcoef(sample[1:], sample[:-1])[0, 1]) < 0.03


def test_kernel_is_normal_independent_and_fills_any_length():
    for size in (0, 1, 63, 64, 65, 127, 128, 129, 1000):
        tensors = {"a": torch.full((size,), 5.0), "b": torch.zeros(size)}
        NoiseSource(seeded(size)).add(tensors, 1e-3)
        assert (tensors["a"] != 5.0).float().mean() > 0.9 or not size
        assert size == 0 or not torch.allclose(tensors["a"] - 5, tensors["b"], atol=1e-6)
    tensors = {"a": torch.zeros(2_000_000)}
    NoiseSource(seeded(11)).add(tensors, 1.0)
    sample = tensors["a"].double().numpy()
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    for order, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = np.sqrt((stats.norm.moment(2 * order) - moment**2) / len(sample))
        assert abs((sample**order).mean() - moment) < 4 * spread
    pairs = sample.reshape(-1, 128)  # a radius and an angle make the samples 64 apart
    for lag in (1, 2, 63, 64, 65, 127):
        left, right = pairs[:, : 128 - lag].ravel(), pairs[:, lag:].ravel()
        limit = 4.5 / np.sqrt(len(left))
        assert abs(np.corrcoef(left, right)[0, 1]) < limit
        assert abs(np.corrcoef(left**2, right**2)[0, 1]) < limit
    beyond = stats.binomtest(int((np.abs(sample) > 4).sum()), len(sample), 2 * stats.norm.sf(4))
    assert beyond.pvalue > 1e-3


def test_secure_normal_has_both_tails():
    sample = secure_normal(200_000).numpy()
    assert stats.kstest(sample, "norm").pvalue > 1e-9  # never the same sample
    assert sample.min() < -3.5
    assert sample.max() > 3.5
    assert np.isfinite(sample).all()
    assert secure_normal(0).shape == (0,)


def test_noise_drawn_ahead_is_the_same():
    results = []
    for ahead in (False, True):
        source = NoiseSource(seeded(5), ahead=ahead)
        tensors = {"a": torch.zeros(400_000), "b": torch.zeros(3, 3)}
        for _ in range(3):
            source.prepare(tensors)
            source.add(tensors, 2.0)
        results.append(tensors)
    assert all(torch.allclose(results[0][name], results[1][name]) for name in results[0])


def test_zero_noise_adds_nothing():
    tensors = {"a": torch.zeros(4)}
    NoiseSource(seeded(0)).add(tensors, 0.0)
    assert not tensors["a"].any()


# the update


def test_micro_batches_add_up_to_the_logical_batch():
    inputs, targets = data(12)
    models = []
    for sizes in ([12], [5, 4, 3], [1] * 12):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
        update = private(model)
        for x, y in zip(inputs.split(sizes), targets.split(sizes), strict=True):
            update.accumulate(x, y)
        update.step()
        models.append(model.state_dict())
    for name, value in models[0].items():
        assert torch.allclose(value, models[1][name])
        assert torch.allclose(value, models[2][name])


def test_update_is_noisy_sum_over_expected_batch_size():
    inputs, targets = data(12)
    model = nn.Linear(4, 3).double()
    found = clipped_gradients(model, inputs, targets, loss, clip_norm=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    update = private(model, sigma=2.0, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    noise = {name: torch.zeros_like(value) for name, value in before.items()}
    NoiseSource(seeded(9)).add(noise, 2.0 * 0.5)
    update.accumulate(inputs, targets)
    update.step()
    for name, value in model.state_dict().items():
        assert torch.allclose(before[name] - value, (found.sums[name] + noise[name]) / 8)
    assert all(weight.grad is None for weight in model.parameters())


def test_empty_batch_is_noise_alone():
    model = nn.Linear(4, 3).double()
    before = model.weight.detach().clone()
    update = private(model, sigma=2.0, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    update.step()
    noise = {"weight": torch.zeros_like(before), "bias": torch.zeros(3, dtype=torch.float64)}
    NoiseSource(seeded(9)).add(noise, 1.0)
    assert torch.allclose(before - model.weight, noise["weight"] / 8)


def test_groups_share_the_noise_of_their_sensitivity():
    update = private(groups="per_layer")
    assert math.isclose(update.noise_scale, 0.5)


def test_noise_is_float32_for_half_precision_models():
    model = nn.Linear(4, 3).bfloat16()
    update = make_private(
        model, torch.optim.SGD(model.parameters(), lr=1.0), loss=lambda o, t: loss(o.float(), t),
        clip_norm=0.5, noise_multiplier=1.0, expected_batch_size=8, generator=seeded(0), noise_ahead=True,
    )  # fmt: skip
    inputs, targets = data(6)
    update.accumulate(inputs.bfloat16(), targets)
    assert all(s.dtype == torch.float32 for s in update._sums.values())
    update.step()
    assert model.weight.dtype == torch.bfloat16


def test_poisoned_records_are_counted():
    inputs, targets = data(6)
    inputs[2] = math.nan
    update = private()
    update.accumulate(inputs, targets)
    update.step()
    assert update.refused == 1
    assert all(torch.isfinite(weight).all() for weight in update.engine.model.parameters())


@pytest.mark.parametrize(
    ("options", "word"),
    [({"noise_multiplier": -1.0}, "noise_multiplier"), ({"noise_multiplier": math.inf}, "noise_multiplier"),
     ({"expected_batch_size": 0}, "expected_batch_size")],
)  # fmt: skip
def test_wrong_arguments(options, word):
    model = nn.Linear(4, 3)
    given = {"clip_norm": 1.0, "noise_multiplier": 1.0, "expected_batch_size": 8, "loss": loss, **options}
    with pytest.raises(ValueError, match=word):
        make_private(model, torch.optim.SGD(model.parameters()), **given)
    stranger = torch.optim.SGD(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match="not the model's"):
        make_private(model, stranger, loss=loss, clip_norm=1.0, noise_multiplier=1.0, expected_batch_size=8)


# physical batches


def test_physical_batches_partition_the_logical_one():
    for count, size in itertools.product((0, 1, 7, 8, 9), (None, 1, 4, 8)):
        records = torch.arange(count) + 3
        parts = list(physical_batches(records, size, fixed_shape=False))
        assert torch.cat([part for part, _ in parts] or [records]).tolist() == records.tolist()
        assert all(mask is None for _, mask in parts)
        if size:
            padded = list(physical_batches(records, size, fixed_shape=True))
            assert all(len(part) == size for part, _ in padded)
            assert torch.cat([part[mask] for part, mask in padded] or [records]).tolist() == records.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_masked_fixed_shapes_train_alike(mode):
    weights = []
    for options in ({}, {"physical_batch_size": 4}, {"physical_batch_size": 4, "fixed_shape": True}):
        loop = trainer(Poisson(0.15), clipping=mode, **options)
        loop.private.engine.model.eval()  # no dropout: its masks would depend on the cut
        reports = list(loop.run(6))
        weights.append(torch.cat([w.flatten() for w in loop.private.engine.model.parameters()]))
    assert torch.allclose(weights[0], weights[1], rtol=1e-9)
    assert torch.allclose(weights[0], weights[2], rtol=1e-9)
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]


# samplers


def test_poisson_counts_are_binomial_and_empty_batches_occur():
    sampler = BatchSampler(Poisson(0.02), 50, seeded(0))
    sizes = np.array([len(sampler.draw()) for _ in range(4000)])
    expected = stats.binom(50, 0.02).pmf(np.arange(4)) * 4000
    observed = [*(int((sizes == k).sum()) for k in range(3)), int((sizes >= 3).sum())]
    expected[3] = 4000 - expected[:3].sum()
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert (sizes == 0).sum() > 1000


def test_truncation_keeps_a_uniform_subset():
    sampler = BatchSampler(TruncatedPoisson(0.5, 4), 12, seeded(0))
    counts = np.zeros(12)
    for _ in range(3000):
        batch = sampler.draw()
        assert len(batch) <= 4
        assert len(set(batch.tolist())) == len(batch)
        counts[batch.numpy()] += 1
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("fresh", [True, False])
def test_balls_in_bins_uses_every_record_once_an_epoch(fresh):
    sampler = BatchSampler(BallsInBins(5, fresh), 30, seeded(0))
    epochs = [[sampler.draw().tolist() for _ in range(5)] for _ in range(3)]
    for epoch in epochs:
        assert sorted(itertools.chain(*epoch)) == list(range(30))
    assert (epochs[0] == epochs[1]) == (not fresh)


def test_shuffles():
    sampler = BatchSampler(Shuffle(8), 30, seeded(0))
    epochs = [[sampler.draw().tolist() for _ in range(4)] for _ in range(2)]
    assert all(sorted(itertools.chain(*epoch)) == list(range(30)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    sampler = BatchSampler(Shuffle(8, False, True), 30, seeded(0))
    epochs = [[sampler.draw().tolist() for _ in range(3)] for _ in range(2)]
    assert epochs[0] == epochs[1]
    assert all(len(batch) == 8 for batch in epochs[0])
    sampler = BatchSampler(Sequential(8), 30, seeded(0))
    assert [sampler.draw().tolist() for _ in range(5)][::4] == [list(range(8)), list(range(8))]


@pytest.mark.parametrize(
    "scheme",
    [Poisson(0.1), TruncatedPoisson(0.1, 12), BallsInBins(10), FixedSize(10), Shuffle(10), Sequential(10)],
    ids=repr,
)
def test_the_sampling_check_recognises_every_sampler(scheme):
    sampler = BatchSampler(scheme, 100, seeded(3))
    trace = dpaudit.SamplingTrace.from_batches([sampler.draw().numpy() for _ in range(1500)], num_records=100)
    observed = dpaudit.check_sampling(trace, sampling_rate=0.1)
    assert observed.rejects_poisson == (scheme != Poisson(0.1))
    assert observed.scheme == scheme


def test_schemes_without_a_sampler_are_refused():
    with pytest.raises(ValueError, match="no sampler for WeightedPoisson"):
        BatchSampler(WeightedPoisson((0.1, 0.2)), 2)
    with pytest.raises(ValueError, match="num_records"):
        BatchSampler(Poisson(0.1), 0)
    with pytest.raises(ValueError, match="cannot draw 8 of 3"):
        BatchSampler(FixedSize(8), 3).draw()
    with pytest.raises(ValueError, match="no whole batch"):
        BatchSampler(Shuffle(8, drop_last=True), 3).draw()


def test_unseeded_samplers_differ():
    assert BatchSampler(Poisson(0.5), 200).draw().tolist() != BatchSampler(Poisson(0.5), 200).draw().tolist()


# the loop


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_resumed_training_is_the_same_to_the_last_bit(scheme, tmp_path):
    options = {"noise_ahead": scheme == BallsInBins(5), "record": True}
    whole = trainer(scheme, **options)
    reports = list(whole.run(11))
    first = trainer(scheme, **options)
    kept = list(first.run(7))
    first.save(tmp_path / "state.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    second = trainer(scheme, **options)
    second.load(tmp_path / "state.pt")
    kept += second.run(4)
    assert repr(kept) == repr(reports)
    assert [batch.tolist() for batch in second.batches] == [batch.tolist() for batch in whole.batches]
    one, other = (loop.private.engine.model.parameters() for loop in (whole, second))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_measured_routes_survive_a_resume():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 64, 3))

    def fresh():
        return private(model=copy.deepcopy(model), sigma=0.0)

    update = fresh()
    update.accumulate(torch.randn(16, 3, 8, 8), torch.arange(16) % 3)
    update.step()
    assert update.engine.choices
    later = fresh()
    later.set_state(update.state())
    assert later.engine.chooser.choices == update.engine.chooser.choices


def test_checkpoint_of_another_mechanism_is_refused(tmp_path):
    trainer(Poisson(0.1)).save(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"noise_multiplier 1\.0, not 2\.0"):
        trainer(Poisson(0.1), sigma=2.0).load(tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"Poisson\(rate=0.1\) on 40 records"):
        trainer(Poisson(0.2)).load(tmp_path / "state.pt")
    with pytest.raises(ValueError, match="for_audit"):
        trainer(Shuffle(8)).load(tmp_path / "state.pt")


def test_state_in_the_middle_of_a_batch_is_refused():
    update = private()
    update.accumulate(*data(4))
    with pytest.raises(ValueError, match="under way"):
        update.state()


def epsilon_of(steps):
    return EpsilonInterval(lower=0.0, upper=0.5 * steps, delta=1e-5, adjacency="add_or_remove_one")


def test_training_stops_before_the_target():
    loop = trainer(Poisson(0.2), accountant=epsilon_of, target_epsilon=2.2)
    assert loop.spent is None
    assert len(list(loop.run(100))) == 4
    assert loop.spent.upper == 2.0
    assert loop.state()["epsilon"][1] == 2.0
    with pytest.raises(DpauditError, match=r"step 5 would exceed the target epsilon 2\.2"):
        loop.step()


def test_the_accountant_is_asked_seldom():
    asked = []

    def count(steps):
        asked.append(steps)
        return epsilon_of(steps)

    loop = trainer(Poisson(0.2), accountant=count, target_epsilon=10.0)
    assert len(list(loop.run(15))) == 15
    assert asked == [15]
    assert [loop.affordable(k) for k in (1, 5, 6, 1000)] == [1, 5, 5, 5]
    assert len(list(loop.run(1000))) == 5
    assert loop.affordable(1) == 0


def test_recorded_batches_are_those_that_were_trained_on():
    for options in ({}, {"physical_batch_size": 4}, {"physical_batch_size": 4, "fixed_shape": True}):
        loop = trainer(Poisson(0.15), record=True, **options)
        reports = list(loop.run(8))
        drawn = BatchSampler(Poisson(0.15), 40, seeded(4))
        assert [batch.tolist() for batch in loop.batches] == [drawn.draw().tolist() for _ in range(8)]
        assert [report.records for report in reports] == [len(batch) for batch in loop.batches]
    unrecorded = trainer(Poisson(0.15))
    with pytest.raises(ValueError, match="no record of its batches"):
        trainer(Poisson(0.15), record=True).set_state(unrecorded.state())


# what goes wrong


def edge_loop(model, records=6, scheme=Poisson(0.9), inputs=None, optimizer=None, **options):  # noqa: B008
    x, y = data(records)
    inputs = x if inputs is None else inputs
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    update = private(model=model, optimizer=optimizer, clipping=options.pop("clipping", "bk_mix_opt"))
    return PrivateTrainer(
        update, BatchSampler(scheme, records, seeded(4)), lambda n: (inputs[n], y[n]), **options
    )


def test_records_without_a_finite_loss_add_nothing_and_are_counted():
    inputs, _ = data(6)
    inputs[2], inputs[4] = math.nan, math.inf
    loop = edge_loop(nn.Linear(4, 3).double(), inputs=inputs, scheme=Poisson(1.0))
    (report,) = loop.run(1)
    assert (report.records, report.refused) == (6, 2)
    assert math.isfinite(report.loss)
    assert 0 <= report.clipped <= 1
    assert all(torch.isfinite(weight).all() for weight in loop.private.engine.model.parameters())
    everything = edge_loop(nn.Linear(4, 3).double(), inputs=inputs * math.nan, scheme=Poisson(1.0))
    (report,) = everything.run(1)
    assert math.isnan(report.loss)
    assert report.refused == 6


def test_an_empty_batch_as_the_first_step():
    loop = edge_loop(nn.Linear(4, 3).double(), scheme=Poisson(1e-12), record=True)
    before = loop.private.engine.model.weight.clone()
    (report,) = loop.run(1)
    assert (report.records, report.refused) == (0, 0)
    assert math.isnan(report.loss)
    assert math.isnan(report.clipped)
    assert not torch.equal(before, loop.private.engine.model.weight), "noise is added all the same"
    assert loop.batches[0].tolist() == []
    resumed = edge_loop(nn.Linear(4, 3).double(), scheme=Poisson(1e-12), record=True)
    resumed.set_state(loop.state())


@pytest.mark.parametrize("mode", ["everything is frozen", "no parameters"])
def test_models_with_nothing_to_train_only_pass_the_time(mode):
    frozen = nn.Linear(4, 3).double().requires_grad_(False)
    model = frozen if mode == "everything is frozen" else nn.Identity()
    loop = edge_loop(model, optimizer=torch.optim.SGD(frozen.parameters(), lr=0.1))
    before = frozen.weight.clone()
    reports = list(loop.run(3))
    assert all(math.isfinite(report.loss) for report in reports if report.records)
    assert torch.equal(before, frozen.weight)
    loop.set_state(loop.state())


def test_a_data_set_of_one_record():
    loop = edge_loop(nn.Linear(4, 3).double(), records=1, scheme=Poisson(0.5), record=True)
    reports = list(loop.run(12))
    assert {report.records for report in reports} == {0, 1}
    loop = edge_loop(nn.Linear(4, 3).double(), records=1, scheme=BallsInBins(3), record=True)
    assert sum(report.records for report in loop.run(6)) == 2


def test_a_loss_that_averages_over_the_batch_is_refused():
    inputs, targets = data()
    model = nn.Linear(4, 3).double()
    update = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loss=F.cross_entropy, clip_norm=1.0,
        noise_multiplier=1.0, expected_batch_size=8,
    )  # fmt: skip
    loop = PrivateTrainer(
        update, BatchSampler(Poisson(0.5), 40, seeded(4)), lambda n: (inputs[n], targets[n])
    )
    with pytest.raises(ValueError, match="one value per record"):
        loop.step()


def test_autocast_keeps_sums_and_noise_in_float32():
    model = nn.Linear(4, 3)
    inputs, targets = data(6)
    update = private(
        model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), autocast=torch.bfloat16
    )
    found = update.accumulate(inputs.float(), targets)
    exact = clipped_gradients(model, inputs.float(), targets, loss, clip_norm=0.5)
    assert found.norms.dtype == torch.float32
    assert all(total.dtype == torch.float32 for total in update._sums.values())
    assert torch.allclose(found.norms, exact.norms, rtol=0.05)
    assert not torch.equal(found.norms, exact.norms), "the forward pass was not in bfloat16"


def test_unguessable_generators():
    one, other = secret_generator(), secret_generator()
    first, second = (torch.rand(200_000, dtype=torch.float64, generator=g).numpy() for g in (one, other))
    assert stats.kstest(first, "uniform").pvalue > 1e-9
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    # A seed of 32 bits would leave most words equal to those of some seed; a whole state has its own.
    twister = secret_generator().get_state()[24 : 24 + 8 * 624].numpy().view(np.uint64)
    assert len(np.unique(twister)) > 620
    assert twister.max() < 2**32


def test_wrong_loops():
    inputs, targets = data()
    fetch = lambda numbers: (inputs[numbers], targets[numbers])  # noqa: E731
    with pytest.raises(ValueError, match="for audits only"):
        PrivateTrainer(private(), BatchSampler(Shuffle(8), 40), fetch)
    poisson = BatchSampler(Poisson(0.1), 40)
    with pytest.raises(ValueError, match="needs an accountant"):
        PrivateTrainer(private(), poisson, fetch, target_epsilon=1.0)
    with pytest.raises(ValueError, match="physical_batch_size"):
        PrivateTrainer(private(), poisson, fetch, fixed_shape=True)
    with pytest.raises(ValueError, match="physical_batch_size"):
        PrivateTrainer(private(), poisson, fetch, physical_batch_size=0)
    update = private()
    with pytest.raises(ValueError, match="generators of their own"):
        PrivateTrainer(update, BatchSampler(Poisson(0.1), 40, update.noise.generator), fetch)


def test_map_style_data_sets():
    inputs, targets = data()
    records = torch.utils.data.TensorDataset(inputs, targets)
    loop = PrivateTrainer(private(), BatchSampler(Poisson(0.2), 40, seeded(4)), records)
    losses = [report.loss for report in loop.run(3)]
    assert losses == [report.loss for report in trainer(Poisson(0.2)).run(3)]


def test_modes_train_alike_on_digits_and_learn():
    """Accuracy above 0.75 on held-out digits with noise multiplier 1, 60 steps at rate 0.2, clip norm 1."""
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    inputs = torch.tensor(digits.data, dtype=torch.float64) / 16
    targets = torch.tensor(digits.target)
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()
    weights = {}
    for mode in MODES:
        model = copy.deepcopy(base)
        update = make_private(
            model, torch.optim.SGD(model.parameters(), lr=2.0), loss=loss, clip_norm=1.0,
            noise_multiplier=1.0, expected_batch_size=300, clipping=mode, generator=seeded(1),
        )  # fmt: skip
        loop = PrivateTrainer(
            update, BatchSampler(Poisson(0.2), 1500, seeded(2)), lambda n: (inputs[n], targets[n])
        )
        assert len(list(loop.run(60))) == 60
        weights[mode] = torch.cat([w.detach().flatten() for w in model.parameters()])
        accuracy = float((model(inputs[1500:]).argmax(1) == targets[1500:]).double().mean())
        assert accuracy > 0.75
    for mode in MODES:
        assert torch.allclose(weights[mode], weights["per_sample"], rtol=1e-7), mode


# what would make an epsilon wrong without a word


class Remembers(nn.Module):
    """Keeps something of the records in a buffer: written in place, or put there anew."""

    def __init__(self, anew):
        super().__init__()
        self.linear, self.anew = nn.Linear(4, 3).double(), anew
        self.register_buffer("seen", torch.zeros(4, dtype=torch.float64))

    def forward(self, inputs):
        outputs = self.linear(inputs)
        if self.training and self.anew:
            self.seen = self.seen + 1
        elif self.training:
            self.seen.add_(1)
        return outputs


@pytest.mark.parametrize("anew", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_buffers_that_the_forward_pass_changes_are_refused(mode, anew):
    loop = edge_loop(Remembers(anew), clipping=mode)
    with pytest.raises(UnsupportedModelError, match="'seen'"):
        loop.step()
    loop.private.engine.model.eval()
    assert loop.step().step == 1


def test_half_a_batch_never_enters_the_next_one():
    inputs, targets = data()
    asked = 0

    def fetch(numbers):
        nonlocal asked
        asked += 1
        if asked == 2:
            raise OSError("the disk is away")
        return inputs[numbers], targets[numbers]

    update = private(model=nn.Linear(4, 3).double(), sigma=0.0)
    loop = PrivateTrainer(update, BatchSampler(Poisson(0.5), 40, seeded(4)), fetch, physical_batch_size=5)
    with pytest.raises(OSError, match="away"):
        loop.step()
    assert loop.steps == 0
    assert update._sums is None
    loop.state()


def test_a_step_is_counted_before_it_is_taken(monkeypatch):
    loop = edge_loop(nn.Linear(4, 3).double())
    taken = loop.private.step

    def interrupted():
        taken()
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.private, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.step()
    assert loop.steps == 1


@pytest.mark.parametrize("times", [2, 0])
def test_a_fetch_of_another_number_of_records_is_refused(times):
    inputs, targets = data()
    fetch = lambda n: (inputs[n].repeat(times, 1), targets[n].repeat(times))  # noqa: E731
    loop = PrivateTrainer(private(), BatchSampler(Poisson(0.5), 40, seeded(4)), fetch)
    with pytest.raises(ValueError, match=r"inputs for \d+ records"):
        loop.step()


def test_the_accountant_and_the_sampler_must_be_of_one_scheme():
    poisson = lambda steps: dataclasses.replace(epsilon_of(steps), scheme=Poisson(0.2))  # noqa: E731
    loop = trainer(BallsInBins(5), accountant=poisson, target_epsilon=9.0)
    with pytest.raises(ValueError, match=r"accountant is of Poisson.*draws by BallsInBins"):
        loop.step()
    assert trainer(Poisson(0.2), accountant=poisson, target_epsilon=9.0).step().step == 1


def test_noise_and_batches_from_one_seed_are_refused():
    inputs, targets = data()
    with pytest.raises(ValueError, match="seeded differently"):
        PrivateTrainer(
            private(noise=4), BatchSampler(Poisson(0.1), 40, seeded(4)), lambda n: (inputs[n], targets[n])
        )


def test_a_checkpoint_of_another_model_or_clip_function_is_refused():
    state = private().state()
    with pytest.raises(ValueError, match=r"another model.*size mismatch"):
        private(model=nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(), nn.Linear(6, 2))).set_state(
            state
        )
    with pytest.raises(ValueError, match="clip_function 'abadi', not 'automatic'"):
        private(clip_function="automatic").set_state(state)
