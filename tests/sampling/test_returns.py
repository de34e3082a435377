"""Returns of records, against a count of every pair of steps."""

from __future__ import annotations

import numpy as np
import pytest

from dpaudit.sampling import returns
from dpaudit.sampling.returns import overlap_by_lag, places_in_epochs
from dpaudit.trace import SamplingTrace


@pytest.fixture
def trace() -> SamplingTrace:
    """Poisson batches of two runs, the second one longer; some steps are empty."""
    rng = np.random.default_rng(3)
    batches = [np.flatnonzero(rng.random(60) < 0.04) for _ in range(40)]
    return SamplingTrace.from_batches(batches, num_records=60, run_starts=np.array([0, 17]))


def shuffled(epochs: int, *, fresh: bool) -> SamplingTrace:
    rng = np.random.default_rng(4)
    order = rng.permutation(960)
    orders = [rng.permutation(960) if fresh else order for _ in range(epochs)]
    return SamplingTrace.from_batches(
        [one[i : i + 40] for one in orders for i in range(0, 960, 40)], num_records=960
    )


def test_overlaps_are_those_of_all_pairs_of_steps(trace) -> None:
    found = overlap_by_lag(trace, 12)
    batches = [set(batch.tolist()) for batch in trace.batches()]
    for lag in range(1, 13):
        pairs = [(i, i + lag) for i in range(40 - lag) if (i < 17) == (i + lag < 17)]
        assert found.seen[lag - 1] == sum(len(batches[i] & batches[j]) for i, j in pairs)
        expected = sum(len(batches[i]) * len(batches[j]) for i, j in pairs) / 60
        assert found.expected[lag - 1] == pytest.approx(expected)


def test_places_are_those_of_all_pairs_of_steps(trace) -> None:
    found = places_in_epochs(trace, 5, 3)
    batches = [set(batch.tolist()) for batch in trace.batches()]
    seen, expected = np.zeros((2, 3, 3))
    for start in (0, 5, 17, 22, 27):  # three whole epochs of five steps in the first run, four in the other
        for i in range(5):
            for j in range(5):
                one, other = batches[start + i], batches[start + 5 + j]
                seen[i * 3 // 5, j * 3 // 5] += len(one & other)
                expected[i * 3 // 5, j * 3 // 5] += len(one) * len(other) / 60
    np.testing.assert_array_equal(found.seen, seen)
    np.testing.assert_allclose(found.expected, expected)


def test_a_kept_order_returns_to_its_place_and_a_fresh_one_does_not() -> None:
    kept = places_in_epochs(shuffled(6, fresh=False), 24, 4)
    np.testing.assert_allclose(kept.seen / kept.expected, 4 * np.eye(4))
    fresh = places_in_epochs(shuffled(6, fresh=True), 24, 4)
    np.testing.assert_allclose(fresh.seen / fresh.expected, 1, atol=0.25)


def test_nothing_returns_within_a_shuffled_epoch() -> None:
    found = overlap_by_lag(shuffled(6, fresh=False), 30)
    assert found.seen[:23].sum() == 0
    assert found.seen[23] == 5 * 960


def test_a_long_trace_is_thinned_without_bias(monkeypatch) -> None:
    monkeypatch.setattr(returns, "_MOST_DRAWS", 2000)
    found = overlap_by_lag(shuffled(6, fresh=False), 30)
    assert found.seen[23] == 5 * 320
    assert found.expected[23] == pytest.approx(5 * 24 * (40 / 3) ** 2 / 320, rel=0.2)
