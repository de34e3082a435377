"""What a feed keeps of its batches, and what is marked between two of them where they go to disk."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from dpaudit.instrument.index_log import IndexLog, IntArray, one_dimensional

_BITS = 4
_RECENT = 256
"""Batches at hand one by one: more than accumulated steps hold."""


class Event(IntEnum):
    """What happened to a feed; each comes with a number."""

    STARTED = 2
    """A pass: the subset of records that it can reach (0: all)."""
    TURNED = 3
    """The next batches are of the pass of that number."""
    USED = 4
    """Gradients were taken."""
    STEPPED = 5
    """The optimizer of that number made a step."""
    UNCERTAIN = 6
    """The batch before may hold records that were not delivered."""
    REPLACED = 7
    """Another data set object of the same shape took the place of the last one."""
    SKIPPED = 8
    """A step of the optimizer of that number was not made, and what was used for it is lost."""


def numbers_of(batch: Any, step: int) -> IntArray:
    """Read the record numbers of a batch; a boolean mask stands for the places where it is true.

    Raises:
      NoRecordNumbersError: it holds something else.
    """
    numbers = one_dimensional(batch, step)
    return np.flatnonzero(numbers) if numbers.dtype.kind == "b" else numbers


def code_of(event: Event, number: int) -> int:
    """Put an event and its number in one mark of a trace directory; 0 and 1 are marks of its own."""
    return number << _BITS | event


def event_of(codes: IntArray) -> tuple[IntArray, IntArray]:
    """Give the events and the numbers of marks."""
    return codes & (1 << _BITS) - 1, codes >> _BITS


class FeedLog(IndexLog):
    """Keeps the batches in memory; what happens between them is known to the feed.

    Args:
      remember: whether the last batches are at hand one by one, for a test that runs along.
    """

    def __init__(self, remember: bool = False) -> None:
        super().__init__()
        self._recent: dict[int, IntArray] | None = {} if remember else None

    def append(self, batch: Any) -> None:
        """Take one batch.

        Raises:
          NoRecordNumbersError: it holds no record numbers.
        """
        if self._recent is not None:
            batch = numbers_of(batch, len(self.sizes))
        super().append(batch)
        self.keep(batch)

    def keep(self, batch: Any) -> None:
        """Have the batch that was taken last at hand."""
        if self._recent is None:
            return
        self._recent[len(self.sizes) - 1] = batch
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]

    def recent(self, numbers: list[int]) -> IntArray | None:
        """Give the records of some batches, one after the other; None if they are not at hand any more."""
        parts = [None if self._recent is None else self._recent.get(number) for number in numbers]
        whole = [part for part in parts if part is not None]
        return np.concatenate(whole) if len(whole) == len(parts) else None

    def mark(self, event: Event, number: int = 0) -> None:
        """Learn what happened after the last batch."""

    def subset(self, rows: Any) -> int:
        """Give the number of the subset that a pass can reach; None: all of the data set, and 0."""
        return 0

    def describe(self, feed: Any) -> None:
        """Learn what else is known of the feed, whenever that has changed."""
