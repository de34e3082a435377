"""Equal records: numbered where whole passes show them, and else held against nobody."""

from __future__ import annotations

import numpy as np
import pytest

from dpaudit.audit.equal_content import doubt_of_content
from dpaudit.instrument.copies import tell_copies
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.result import Recording
from dpaudit.trace import SamplingTrace


def test_copies_are_told_in_whole_passes() -> None:
    numbers = np.array([0, 1, 1, 2, 1, 0, 2, 1, 1, 2])
    told = tell_copies(numbers, np.array([0, 4, 8]), 4)
    assert told is not None
    records, contents = told
    np.testing.assert_array_equal(contents, [0, 1, 1, 2])
    np.testing.assert_array_equal(contents[records], numbers)
    assert sorted(records[:4]) == sorted(records[4:8]) == [0, 1, 2, 3]


def test_the_order_of_copies_is_chance() -> None:
    passes = np.tile([0, 0, 1], 2000)
    records, _ = tell_copies(passes, np.arange(0, 6000, 3), 3)  # type: ignore[misc]
    assert 900 < (records[::3] == 0).sum() < 1100
    cut, _ = tell_copies(np.array([0, 0, 0, 0, 0]), np.array([0, 2, 4]), 2)  # type: ignore[misc]
    assert cut[4] in (0, 1)


@pytest.mark.parametrize(
    ("numbers", "starts", "size"),
    [
        ([0, 1, 1, 2], [0], 4),  # one pass tells nothing
        ([0, 1, 2, 0, 1, 2], [0, 3], 3),  # all differ
        ([0, 1, 1, 0, 1, 2], [0, 3], 3),  # passes differ, as Poisson draws do
        ([0, 1, 1, 0, 1, 1, 1, 1, 1], [0, 3, 6], 3),  # more than there are
        ([0, 1, 1, 0, 1], [0, 3], 3),  # the second is not whole
        ([0, 1, 1, 0, 1, 1], [0, 3], 2),  # a record that is read twice
        ([0, 1, 1, 0, 1, 1], [0, 3], None),
    ],
)
def test_copies_that_are_not_shown_are_not_made_up(
    numbers: list[int], starts: list[int], size: int | None
) -> None:
    assert tell_copies(np.array(numbers), np.array(starts), size) is None


def recording(
    batches: list[list[int]], known: int | None, epochs: list[int] | None = None, by_content: bool = True
) -> Recording:
    trace = SamplingTrace.from_batches(batches, num_records=max(known or 0, 1 + max(map(max, batches))))
    trace = SamplingTrace(
        indices=trace.indices,
        offsets=trace.offsets,
        num_records=trace.num_records,
        epoch_starts=None if epochs is None else np.array(epochs),
        numbered_by_appearance=by_content,
    )
    facts = LoaderFacts(loader="any", num_records=known)
    return Recording(trace=trace, method=Method.FINGERPRINT, facts=facts, seed=None, notes=())


def test_content_is_as_good_as_numbers_where_all_records_differ() -> None:
    poisson = [[0, 1], [1], [2, 0]]
    assert doubt_of_content(recording(poisson, 3), None) == ("", "")
    assert doubt_of_content(recording(poisson, None), 3) == ("", "")
    assert doubt_of_content(recording(poisson, None, by_content=False), None) == ("", "")
    assert doubt_of_content(recording([[0, 1], [2], [2, 0], [1]], None, [0, 2]), None) == ("", "")


@pytest.mark.parametrize("known", [None, 4])
def test_content_that_may_be_of_several_records_is_doubted(known: int | None) -> None:
    why, what_to_do = doubt_of_content(recording([[0, 1], [1], [2, 0]], known), None)
    assert "equal" in why
    assert "--num-records" in what_to_do


def test_records_that_are_altered_in_each_pass_are_doubted() -> None:
    assert doubt_of_content(recording([[0], [1], [2], [3], [4], [5]], None, [0, 3]), None)[0]
