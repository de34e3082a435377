"""Which batches went into which use: loops of every kind are played, and told from their counts alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpaudit.instrument.script.attribution import Attribution, Pattern, attribute


class Play:
    """Plays a loop: `hand` delivers a batch, `use` takes gradients of the batches that are named."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.pass_of: list[int] = []
        self.uses: list[int] = []
        self.truth: list[list[int]] = []

    def hand(self, source: int, size: int = 3) -> int:
        self.sizes.append(size)
        self.pass_of.append(source)
        return len(self.sizes) - 1

    def use(self, *batches: int) -> None:
        self.uses.append(len(self.sizes))
        self.truth.append(list(batches))

    def told(self) -> tuple[list[list[int]], Attribution]:
        told = attribute(self.uses, self.pass_of, self.sizes)
        return [list(range(*limits)) for limits in zip(told.first, told.last, strict=True)], told


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 3))
def test_each_batch_before_its_uses(lengths: list[int], times: int) -> None:
    play = Play()
    for number, length in enumerate(lengths):
        for _ in range(length):
            batch = play.hand(number)
            for _ in range(times):  # ghost clipping takes two backward passes
                play.use(batch)
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.DIRECT
    assert told.left_out == 0


@given(st.lists(st.integers(4, 12), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 2))
def test_a_prefetcher_is_ahead(lengths: list[int], ahead: int, times: int) -> None:
    play = Play()
    for number, length in enumerate(lengths):
        held: list[int] = []
        for _ in range(length):
            held.append(play.hand(number))
            if len(held) > ahead:
                batch = held.pop(0)
                for _ in range(times):
                    play.use(batch)
        for batch in held:
            for _ in range(times):
                play.use(batch)
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.IN_TURN


def test_a_prefetcher_that_was_stopped() -> None:
    play = Play()
    held = [play.hand(0), play.hand(0)]
    for _ in range(30):
        held.append(play.hand(0))
        play.use(held.pop(0))
    assert play.told()[0] == play.truth


@pytest.mark.parametrize("stopped", [False, True])
def test_all_batches_of_a_step_are_fetched_before_the_first_backward(stopped: bool) -> None:
    play = Play()
    for number in range(1 if stopped else 3):
        for _ in range(6):
            group = [play.hand(number) for _ in range(4)]
            for batch in group:
                play.use(batch)
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.IN_TURN


@given(st.integers(2, 4), st.integers(1, 3), st.integers(2, 6))
def test_batches_are_joined(together: int, passes: int, steps: int) -> None:
    play = Play()
    for number in range(passes):
        for _ in range(steps):
            play.use(*[play.hand(number) for _ in range(together)])
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.JOINED


def test_batches_are_left_out() -> None:
    rng = np.random.default_rng(0)
    play = Play()
    for number in range(3):
        for _ in range(40):
            batch = play.hand(number, int(rng.poisson(5)))
            if 0 < play.sizes[batch] < 8:
                play.use(batch)
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.LEFT_OUT
    large = [size >= 8 for size in play.sizes[: play.uses[-1]]]
    assert told.left_out == sum(large)


def test_empty_batches_that_are_skipped_hold_nobody() -> None:
    play = Play()
    for _ in range(20):
        play.hand(0, 0)
        play.use(play.hand(0))
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.DIRECT


def test_passes_without_a_backward_play_no_part() -> None:
    play = Play()
    play.hand(0)  # a look at the first batch
    for number in range(1, 4):
        for _ in range(5):
            play.use(play.hand(2 * number - 1))
        for _ in range(5):
            play.hand(2 * number)  # training accuracy
    found, told = play.told()
    assert found == play.truth
    assert told.pattern is Pattern.DIRECT


def test_a_resumed_loop_reads_over_the_batches_that_it_had() -> None:
    play = Play()
    for _ in range(7):
        play.hand(0)
    for _ in range(5):
        play.use(play.hand(0))
    for _ in range(12):
        play.use(play.hand(1))
    found, told = play.told()
    assert found == play.truth
    assert told.left_out == 7
