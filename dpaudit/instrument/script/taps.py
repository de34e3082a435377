"""Where loaders report the batches that they give."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from dpaudit.instrument.carried import Carried
from dpaudit.instrument.script.feed import Dropped, Feed, IntArray, Pass


class Handover:
    """A loader that relays what torch's iterators fetch for it; its batches wait here until handed on."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Tap, Carried]] = deque()
        self.started: Pass | None = None


class Tap:
    """Where one of torch's iterators reports what it fetches."""

    def __init__(self, feed: Feed, rows: IntArray | None) -> None:
        self.feed = feed
        self.rows = rows
        self.started: Pass | None = None
        self.dropped = Dropped()
        self.length: int | None = None
        """Batches after which it starts a new pass by itself."""


def first_leaf(batch: Any) -> Any:
    """Give the first object inside nested containers: a tensor, which moving to its own device keeps."""
    for _ in range(8):
        if isinstance(batch, (list, tuple)) and batch:
            batch = batch[0]
        elif isinstance(batch, Mapping) and batch:
            batch = next(iter(batch.values()))
        else:
            break
    return batch
