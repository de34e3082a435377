from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpaudit.audit.keeping import keep_sampling
from dpaudit.report.epsilon_plot import interval_plot
from dpaudit.scheme import (
    BallsInBins,
    BufferShuffle,
    FixedSize,
    SamplingScheme,
    Sequential,
    Shuffle,
    WeightedPoisson,
)

POSITIVE = st.floats(min_value=1e-9, max_value=1e9)


def test_bars_stand_where_their_numbers_are() -> None:
    lines = interval_plot([("a", 1, 1), ("bb", 10, 100), ("c", 10, math.inf)], 10, width=26)
    assert lines == (
        "a   =         |",
        "bb            #==========",
        "c             #==========>",
        "    1.000           100.0",
    )


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=6), POSITIVE)
def test_the_order_of_ends_is_the_order_of_columns(ends: list[tuple[float, float]], claim: float) -> None:
    rows = [(f"row {place}", min(pair), max(pair)) for place, pair in enumerate(ends)]
    *bars, axis = interval_plot(rows, claim)
    assert max(map(len, (*bars, axis))) <= 80
    mark = next(line.index("|" if "|" in line else "#", 7) for line in bars)
    for line, (_, lower, upper) in zip(bars, rows, strict=True):
        filled = [cell for cell in range(7, len(line)) if line[cell] in "=#"]
        assert filled == list(range(filled[0], filled[-1] + 1))
        # Bars are rounded outward: one that misses the claim's column misses the claim.
        if mark not in filled:
            assert not lower <= claim <= upper


def test_nothing_to_draw_draws_nothing() -> None:
    assert interval_plot([("a", 0.0, math.inf)], math.inf) == ()
    assert interval_plot([("a", 2.0, 2.0)], 2.0)


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (Shuffle(5, reshuffled_each_epoch=False), "one shuffled order"),
        (Sequential(5), "reading in order"),
        (FixedSize(5, replacement=True), "fresh batches of fixed size with replacement"),
        (BallsInBins(5, fresh_each_epoch=False), "balls in bins that are thrown once"),
        (WeightedPoisson((0.1, 0.2)), "weighted poisson sampling"),
    ],
)
def test_schemes_have_words(scheme: SamplingScheme, words: str) -> None:
    assert keep_sampling(scheme, noise_needed=2.0, epsilon=4.0) == (
        f"If you keep {words}, you need noise multiplier 2.000: that is proved to give epsilon at most 4."
    )


def test_schemes_that_need_the_same_noise_share_a_sentence() -> None:
    sentence = keep_sampling(Shuffle(5), BufferShuffle(5, 50), noise_needed=2.0, epsilon=1 / 3)
    assert sentence == (
        "If you keep shuffling or the shuffle buffer, you need noise multiplier 2.000: that is proved to "
        "give epsilon at most 0.3334."
    )
