from __future__ import annotations

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dpaudit.errors import TraceError
from dpaudit.sampling.monitor import _SHARES, SamplingMonitor, _bets

N, Q = 1000, 0.05
PATH = Path(__file__).parents[2] / "benchmarks" / "monitor.py"


def subsets(records: int, rate: float) -> list[tuple[np.ndarray, float]]:
    sets = [np.array([i for i in range(records) if mask >> i & 1], int) for mask in range(2**records)]
    return [(one, rate ** len(one) * (1 - rate) ** (records - len(one))) for one in sets]


@pytest.mark.parametrize(("records", "rate", "steps"), [(3, 0.3, 3), (2, 0.6, 4), (1, 0.2, 6)])
def test_the_e_value_has_mean_one(records, rate, steps) -> None:
    mean = 0.0
    for sequence in itertools.product(subsets(records, rate), repeat=steps):
        monitor = SamplingMonitor(records, rate)
        for batch, _ in sequence:
            state = monitor.update(batch)
        mean += math.exp(state.log_e_value) * math.prod(chance for _, chance in sequence)
    assert mean == pytest.approx(1, abs=1e-12)


def test_every_bet_has_mean_one_given_the_past(tmp_path) -> None:
    records, rate = 5, 0.4
    rng = np.random.default_rng(0)
    every = subsets(records, rate)
    monitor = SamplingMonitor(records, rate)
    for step in range(12):
        monitor.save(tmp_path / "before.npz")
        mean = 0.0
        for batch, chance in every:
            again = SamplingMonitor.load(tmp_path / "before.npz")
            bets = (
                again._sizes.log_bets(len(batch)),
                again._records.bet_and_learn(batch),
                again._copies.bet_and_learn(batch),
            )
            mean = mean + chance * np.exp(np.concatenate(bets))
        assert mean == pytest.approx(np.ones(len(mean)), abs=1e-12)
        monitor.update(every[rng.choice(len(every), p=[chance for _, chance in every])][0])
        if step == 5:
            monitor.start_pass()
        if step == 8:
            monitor.start_run()


def test_shares_sum_to_one() -> None:
    assert sum(_SHARES.values()) == pytest.approx(1)
    for rate in (1e-7, 1e-3, 0.05, 0.5, 0.99):
        assert np.exp(_bets(rate)[1]).sum() == pytest.approx(1)


def shuffled(rng, size=50, seed=None):
    while True:
        order = (rng if seed is None else np.random.default_rng(seed)).permutation(N)
        yield from order.reshape(-1, size)


def poisson(rng, rate=Q, draw=lambda batch: batch):
    while True:
        yield draw(np.flatnonzero(rng.random(N) < rate))


def replayed(rng):
    batches = list(itertools.islice(poisson(rng), 20))
    yield from itertools.cycle(batches)


def fixed(rng):
    while True:
        yield rng.choice(N, 50, replace=False)


def with_replacement(rng):
    while True:
        yield rng.integers(N, size=rng.binomial(N, Q))


def markov(rng, correlation=0.03):
    state = rng.random(N) < Q
    while True:
        yield np.flatnonzero(state)
        state = rng.random(N) < np.where(state, Q + correlation * (1 - Q), Q * (1 - correlation))


def weighted(rng):
    rates = np.where(np.arange(N) < N // 4, 2.5 * Q, Q / 2)
    while True:
        yield np.flatnonzero(rng.random(N) < rates)


def noisy(rng):
    while True:
        yield np.flatnonzero(rng.random(N) < Q * (1 + 0.4 * rng.standard_normal()))


def separated(rng):
    """Poisson sampling that leaves out whoever was in one of the latest 10 steps."""
    last = -rng.integers(1, 21, N)  # half of them may come, as later on
    for step in itertools.count():
        batch = np.flatnonzero((step - last > 10) & (rng.random(N) < 2 * Q))
        last[batch] = step
        yield batch


def late(rng):
    yield from itertools.islice(poisson(rng), 400)
    yield from shuffled(rng)


SAMPLERS = {
    "shuffled": (shuffled, {"DPA104"}),
    "one order each epoch": (lambda rng: shuffled(rng, seed=1), {"DPA104"}),
    "replayed": (replayed, {"DPA107"}),
    "fixed size": (fixed, {"DPA109"}),
    "with replacement": (with_replacement, {"DPA106"}),
    "more": (lambda rng: poisson(rng, 1.1 * Q), {"DPA102"}),
    "less": (lambda rng: poisson(rng, 0.9 * Q), {"DPA102"}),
    "correlated": (markov, {"DPA103"}),
    "weighted": (weighted, {"DPA115"}),
    "noisy rate": (noisy, {"DPA108"}),
    "separated": (separated, {"DPA103", "DPA104", "DPA105"}),
    "capped": (lambda rng: poisson(rng, draw=lambda batch: batch[:60]), {"DPA111"}),
    "floor to 8": (lambda rng: poisson(rng, draw=lambda b: b[: len(b) // 8 * 8]), {"DPA112"}),
    "shuffled from step 400 on": (late, {"DPA104", "DPA109", "DPA112"}),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_defect_is_found_by_its_bet(name) -> None:
    make, rules = SAMPLERS[name]
    monitor = SamplingMonitor(N, Q)
    for batch in itertools.islice(make(np.random.default_rng(3)), 600):
        state = monitor.update(batch)
        if state.refuted:
            break
    assert state.refuted
    assert state.p_value <= 1e-3
    assert state.rule in rules
    assert state.leading


def test_records_never_empty_batches() -> None:
    rng, rate = np.random.default_rng(0), 1 / N
    monitor = SamplingMonitor(N, rate)
    for _ in range(200):
        batch = np.flatnonzero(rng.random(N) < rate)
        if len(batch):
            state = monitor.update(batch)
    assert state.refuted
    assert state.rule == "DPA113"


@pytest.mark.parametrize(
    ("records", "rate"),
    [(1, 0.3), (7, 0.9), (3000, 1e-5), (100, 0.5), (1000, 1.0), (50_000, 0.004), (10, 1e-9), (5, 1 - 1e-9)],
)
def test_honest_samplers_of_every_shape_pass(records, rate) -> None:
    rng = np.random.default_rng(5)
    monitor = SamplingMonitor(records, rate)
    for _ in range(150):
        state = monitor.update(np.flatnonzero(rng.random(records) < rate))
        assert math.isfinite(state.log_e_value)
    assert state.steps == 150
    assert not state.refuted


def test_refutation_stays() -> None:
    rng = np.random.default_rng(0)
    monitor = SamplingMonitor(N, Q)
    for batch in itertools.islice(shuffled(rng), 20):
        refuted = monitor.update(batch)
    assert refuted.refuted
    for batch in itertools.islice(poisson(rng), 300):
        state = monitor.update(batch)
    assert state.refuted
    assert state.p_value <= refuted.p_value
    assert state.log_e_value < refuted.log_e_value


def test_one_possible_batch() -> None:
    monitor = SamplingMonitor(3, 1.0)
    assert not monitor.update([2, 0, 1]).refuted
    state = monitor.update([0, 1])
    assert (state.refuted, state.log_e_value, state.p_value, state.rule) == (True, math.inf, 0.0, "DPA102")


@pytest.mark.parametrize("batch", [[0, N], [-1], [0.5], [[1, 2]], ["a"], [True, False]])
def test_wrong_batches_leave_the_monitor_as_it_was(batch) -> None:
    monitor = SamplingMonitor(N, Q)
    monitor.update([1, 2])
    with pytest.raises(ValueError, match="record number"):
        monitor.update(batch)
    assert monitor.state.steps == 1


@pytest.mark.parametrize(
    "arguments", [(0, 0.1), (1.5, 0.1), (10, 0), (10, 1.1), (10, math.nan), (10, 0.1, 1)]
)
def test_wrong_arguments(arguments) -> None:
    with pytest.raises(ValueError, match="expected"):
        SamplingMonitor(*arguments)


@pytest.mark.parametrize("rate", [Q, 1.0])
def test_a_stored_monitor_goes_on_as_if_never_stopped(tmp_path, rate) -> None:
    whole, parts = SamplingMonitor(N, rate), SamplingMonitor(N, rate)
    for batch in itertools.islice(poisson(np.random.default_rng(2), rate), 60):
        parts.save(tmp_path / "monitor.npz")
        parts = SamplingMonitor.load(tmp_path / "monitor.npz")
        assert parts.update(batch) == whole.update(batch)
    assert [path.name for path in tmp_path.iterdir()] == ["monitor.npz"]


def test_a_broken_stored_monitor_is_refused(tmp_path) -> None:
    path = tmp_path / "monitor.npz"
    with pytest.raises(TraceError, match="cannot write"):
        SamplingMonitor(10, 0.5).save(tmp_path / "absent" / "monitor.npz")
    with pytest.raises(TraceError, match="monitor"):
        SamplingMonitor.load(path)
    SamplingMonitor(10, 0.5).save(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(TraceError, match="monitor"):
        SamplingMonitor.load(path)
    np.savez(path, setting=np.array([object()]))
    with pytest.raises(TraceError, match="monitor"):
        SamplingMonitor.load(path)


def test_memory_does_not_grow_with_the_steps() -> None:
    rng = np.random.default_rng(0)
    monitor = SamplingMonitor(N, 0.2)
    held = []
    for _ in range(2):
        for _ in range(500):
            monitor.update(np.flatnonzero(rng.random(N) < 0.2))
        parts = (monitor._sizes.stored(), monitor._records.stored())
        held.append(sum(array.nbytes for part in parts for array in part.values()))
    assert held[1] < 1.1 * held[0]


def test_only_so_many_batches_are_remembered(monkeypatch) -> None:
    from dpaudit.sampling import monitor_copies

    monkeypatch.setattr(monitor_copies, "_FIRST", 10)
    monkeypatch.setattr(monitor_copies, "_LATEST", 10)
    bet = monitor_copies.CopyBet(N)
    rng = np.random.default_rng(0)
    batches = [rng.choice(N, 50, replace=False) for _ in range(40)]
    for batch in batches:
        bet.bet_and_learn(batch)
    assert len(bet.stored()["copy_marks"]) == 20
    assert bet.bet_and_learn(batches[3][::-1])[0] > 20  # among the first
    assert bet.bet_and_learn(batches[35])[0] > 20  # among the latest
    assert bet.bet_and_learn(batches[15])[0] < 0  # forgotten


def benchmark():
    spec = importlib.util.spec_from_file_location("monitor_benchmark", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_poisson_samplers_are_not_refuted_however_often_one_looks() -> None:
    samplers = 2000
    result = benchmark().calibrate(samplers, seed=1, longest=200)
    # Passed with probability 1e-3 by a test that is exactly at its level.
    assert result["refuted"] <= stats.binom.isf(1e-3, samplers, 1e-3)
    for level, share in result["share_at_most"].items():
        assert share * samplers <= stats.binom.isf(1e-3, samplers, float(level))


@pytest.mark.slow
def test_power_is_within_three_times_the_steps_of_the_battery() -> None:
    for name, row in benchmark().power(samplers=10, seed=1).items():
        if row["limit"] is not None:
            assert row["monitor_over_battery"] <= row["limit"], name
