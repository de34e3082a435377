"""A feed: the batches of one data set that a program was handed, and when they were put to use."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.records import RecordNumbers, number_records
from dpaudit.instrument.script.feed_log import Event, FeedLog

IntArray = npt.NDArray[np.int64]


class Dropped:
    """Set once an iterator is gone; holds nothing, so that it keeps neither the iterator nor its data set."""

    def __init__(self) -> None:
        self.yet = False

    def set(self) -> None:
        """Note that the iterator is gone."""
        self.yet = True


class Pass:
    """One iteration over a loader, from its start to its end, or to where the program dropped it."""

    def __init__(self, number: int, dropped: Dropped | None) -> None:
        self.number = number
        self.finished = False
        self.delivered = 0
        self.uses = 0
        self._dropped = dropped

    @property
    def ended(self) -> bool:
        """Whether no more batches can come."""
        return self.finished or (self._dropped is not None and self._dropped.yet)


class StepLog:
    """The steps of one optimizer, by how far the feed was at each."""

    def __init__(self, optimizer: str, number: int) -> None:
        self.optimizer = optimizer
        self.number = number
        """Steps that the optimizer made before the first of these."""
        self.uses = array("q")
        """Uses of the feed before the end of each step."""
        self.reached = array("q")
        """Batches delivered before the end of each step."""
        self.skips: list[tuple[int, int, int]] = []
        """Of each step that was not made: steps made, uses and batches delivered by then."""

    def begins(self) -> tuple[IntArray, IntArray]:
        """Give uses and batches delivered at the begin of each step; those of skipped steps are in none."""
        uses, reached = (
            np.array([0, *made[:-1]], np.int64)[: len(made)] for made in (self.uses, self.reached)
        )
        for step, used, delivered in self.skips:
            uses[step : step + 1], reached[step : step + 1] = used, delivered
        return uses, reached


class Feed:
    """Grows with every batch that the program is handed, every backward and every optimizer step.

    Only counts are kept beside the record numbers; which batch went into which step is told afterwards
    by `attribution.attribute`, when the whole pattern is known. All that happens is told to the log, so
    that one on disk is enough to make the feed again.
    """

    def __init__(self, dataset: Any, method: Method, facts: LoaderFacts, log: FeedLog | None = None) -> None:
        self.dataset = dataset
        """Innermost data set, kept so that its identity stays."""
        self.method = method
        self.facts = facts
        self.log = FeedLog() if log is None else log
        self.pass_of = array("q")
        """Number of the pass that each batch came from."""
        self.uses = array("q")
        """Batches delivered so far, at each backward that could use them."""
        self.steps: dict[int, StepLog] = {}
        self.passes: list[Pass] = []
        self.subsets: dict[int, IntArray | None] = {}
        """Rows of the innermost data set that the loader of each pass could reach; None: all."""
        self.replaced = 0
        """Data set objects that took the place of an earlier one of the same class and length."""
        self.stated = False
        """Whether the program says itself when its batches are used."""
        self.uncertain = 0
        self.unreadable = ""
        """Why batches cannot be followed; "" while they can."""

    @property
    def delivered(self) -> int:
        """Batches handed over so far."""
        return len(self.pass_of)

    @property
    def current(self) -> Pass | None:
        """The pass that the latest batch came from; one that was begun within it may be over."""
        return self.passes[self.pass_of[-1]] if self.pass_of else None

    def numbering(self) -> RecordNumbers:
        """Tell which record each row of the innermost data set is."""
        return number_records(self.dataset)

    def know(self, facts: LoaderFacts) -> None:
        """Learn what the latest loader says of itself."""
        if facts != self.facts:
            self.facts = facts
            self.log.describe(self)

    def replace(self, dataset: Any) -> None:
        """Take another data set object for the same records in the same order."""
        self.dataset = dataset
        self.replaced += 1
        self.log.mark(Event.REPLACED)

    def start_pass(self, rows: IntArray | None, dropped: Dropped | None = None) -> Pass:
        """Begin a pass; `rows` are those of the innermost data set that it can reach."""
        if not self.passes:
            self.log.describe(self)
        self.log.mark(Event.STARTED, self.log.subset(rows))
        started = Pass(len(self.passes), dropped)
        self.passes.append(started)
        self.subsets[started.number] = rows
        return started

    def deliver(self, source: Pass, indices: Any, certain: bool) -> None:
        """Take a batch that the program has just been handed."""
        if self.unreadable:
            return
        rows = self.subsets[source.number]
        if rows is not None:
            indices = rows[np.asarray(indices, np.int64)]
        if not self.delivered or self.pass_of[-1] != source.number:
            self.log.mark(Event.TURNED, source.number)
        try:
            self.log.append(indices)
        except DpauditError as error:
            self.unreadable = error.message
            self.log.describe(self)
            return
        self.pass_of.append(source.number)
        if not certain:
            self.uncertain += 1
            self.log.mark(Event.UNCERTAIN)
        source.delivered += 1

    def use(self) -> None:
        """Note that gradients were taken; of batches that cannot be read there is nothing to note."""
        if self.unreadable:
            return
        self.uses.append(self.delivered)
        self.log.mark(Event.USED)
        if self.delivered:
            self.passes[self.pass_of[-1]].uses += 1

    def step(self, key: int, optimizer: str, number: int) -> bool:
        """Note a step of an optimizer, its `number`-th; tell whether batches of this feed went into it."""
        if self.unreadable:
            return False
        log = self._log_of(key, optimizer, number)
        self.log.mark(Event.STEPPED, key)
        before = log.uses[-1] if log.uses else 0
        if log.skips:
            before = max(before, log.skips[-1][1])
        log.uses.append(len(self.uses))
        log.reached.append(self.delivered)
        return len(self.uses) > before

    def skip(self, key: int, optimizer: str, number: int) -> None:
        """Note that a step was not made, and that the gradients taken for it are lost."""
        if self.unreadable:
            return
        log = self._log_of(key, optimizer, number)
        self.log.mark(Event.SKIPPED, key)
        log.skips.append((len(log.uses), len(self.uses), self.delivered))

    def _log_of(self, key: int, optimizer: str, number: int) -> StepLog:
        log = self.steps.get(key)
        if log is None:
            log = self.steps[key] = StepLog(optimizer, number)
            self.log.describe(self)
        return log
