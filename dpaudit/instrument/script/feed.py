"""A feed: the batches of one data set that a program was handed, and when they were put to use."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.index_log import IndexLog
from dpaudit.instrument.methods import Method

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


class Feed:
    """Grows with every batch that the program is handed, every backward and every optimizer step.

    Only counts are kept beside the record numbers; which batch went into which step is told afterwards
    by `attribution.attribute`, when the whole pattern is known.
    """

    def __init__(self, dataset: Any, method: Method, facts: LoaderFacts) -> None:
        self.dataset = dataset
        """Innermost data set, kept so that its identity stays."""
        self.method = method
        self.facts = facts
        self.log = IndexLog()
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

    def start_pass(self, rows: IntArray | None, dropped: Dropped | None = None) -> Pass:
        """Begin a pass; `rows` are those of the innermost data set that it can reach."""
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
        try:
            self.log.append(indices)
        except DpauditError as error:
            self.unreadable = error.message
            return
        self.pass_of.append(source.number)
        self.uncertain += not certain
        source.delivered += 1

    def use(self) -> None:
        """Note that gradients were taken."""
        self.uses.append(self.delivered)
        if self.delivered:
            self.passes[self.pass_of[-1]].uses += 1

    def step(self, key: int, optimizer: str, number: int) -> bool:
        """Note a step of an optimizer, its `number`-th; tell whether batches of this feed went into it."""
        log = self.steps.get(key)
        if log is None:
            log = self.steps[key] = StepLog(optimizer, number)
        before = log.uses[-1] if log.uses else 0
        log.uses.append(len(self.uses))
        log.reached.append(self.delivered)
        return len(self.uses) > before
