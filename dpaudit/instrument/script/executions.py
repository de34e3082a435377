"""What a TensorFlow program does, told from the calls that it makes from Python.

Python code inside a `tf.function` runs only while it is traced. So nothing is told from there but
batches: those that a function takes from an iterator are kept until it returns. Whether it took
gradients is known of its graph, and how many steps it made is read off the optimizer's own counter.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.instrument.carried import Carried
from dpaudit.instrument.script.feed import Pass
from dpaudit.instrument.script.rows import UnreadableBatchError, row_marks
from dpaudit.instrument.script.session import Session, Tap
from dpaudit.instrument.script.tf_datasets import Pipeline

GRADIENTS, STEPS, REPLICAS = "gradients", "steps", "replicas"
"""What the graph of a function can do."""

_ADVICE = "Take batches from Python, one for each call, or say the records: dpaudit.step(records)."
_SHAPES = (
    "rows of tf.data batches have another shape in other batches, as when records are padded to the longest of "
    "their batch: their content does not tell which records they are. Pad all to one length."
)


class Counted:
    """An optimizer and how far its own count of applied gradients was when last looked at."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.place = self.seen = self._read()

    def _read(self) -> int:
        count = self.optimizer._iterations  # the property of Keras 2 would create it
        return 0 if count is None else int(np.asarray(count))

    def look(self) -> int:
        """Give how often gradients were applied since the last look."""
        before, self.seen = self.seen, self._read()
        return self.seen - before

    def advance(self) -> bool:
        """Go over one application; tell whether weights moved, and not only a sum of gradients."""
        self.place += 1
        every = getattr(self.optimizer, "gradient_accumulation_steps", None) or 1
        return self.place % int(every) == 0


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A batch that was handed over since gradients were last taken."""

    tap: Tap
    source: Pass | None
    problem: str = ""

    @property
    def is_over(self) -> bool:
        """Whether its iterator has come to its end, or was dropped."""
        return self.tap.dropped.yet or (self.source is not None and self.source.ended)


class Executions:
    """One for each session; iterators, functions and optimizers report to it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.depth = 0
        """Above 0 while a function or an optimizer runs: what happens inside it is told at its end."""
        self.on_step: list[Callable[[Any, int], None]] = []
        """Called with the optimizer, and the records of the last batch, before each step is noted."""
        self.only: Pipeline | None = None
        """What any data set that is made at the moment stands for: the single batch of `train_on_batch`."""
        self.described: weakref.WeakKeyDictionary[Any, Pipeline] = weakref.WeakKeyDictionary()
        """Data sets of which is known what they were made from."""
        self._inside: list[tuple[Tap, list[int] | str]] = []
        self._fresh: dict[int, _Fresh] = {}
        self._consumed = False
        self._shapes: dict[int, Any] = {}
        self._counted: dict[int, Counted] = {}
        self._size = 0

    # Batches

    def read(self, tap: Tap, columns: list[Any]) -> list[int] | str:
        """Give the marks of the rows of a batch, or why there are none."""
        shapes = [(column.dtype, column.shape[1:]) for column in columns]
        if self._shapes.setdefault(id(tap.feed), shapes) != shapes:
            return _SHAPES
        try:
            return row_marks(columns)
        except UnreadableBatchError as error:
            return f"tf.data: {error}"

    def taken_inside(self, tap: Tap, marks: list[int] | str) -> None:
        """Keep a batch that a running function took from an iterator; called on TensorFlow's threads."""
        self._inside.append((tap, marks))

    def taken(self, tap: Tap, marks: list[int] | str) -> None:
        """Take a batch that was handed to the program."""
        if self._consumed:
            self.forget()
        if isinstance(marks, str):
            self._session.unfollowed(marks)
            self._fresh[id(tap)] = _Fresh(tap, None, marks)
            return
        self._session.fetched(tap, Carried(marks, None))
        self._size = len(marks)
        self._fresh[id(tap)] = _Fresh(tap, tap.started)

    def ended(self, tap: Tap) -> None:
        """Note that an iterator has no more batches."""
        self._session.ended(tap)
        if id(tap) in self._fresh and self._fresh[id(tap)].problem:
            del self._fresh[id(tap)]

    def forget(self) -> None:
        """Leave what was handed over so far out of the gradients to come."""
        self._fresh.clear()
        self._consumed = False

    # Gradients and steps

    def gradients(self) -> None:
        """Note gradients: of all batches since the last ones, or of the same batches again."""
        self._consumed = True
        latest = self._session.latest
        live = [one for one in self._fresh.values() if not one.is_over or (one.source is latest and not one.problem)]
        for one in live:
            if one.problem:
                self._session.refuse(one.problem)
        self._session.used(dict.fromkeys(one.tap.feed for one in live if not one.problem))

    def count(self, optimizer: Any) -> None:
        """Follow an optimizer, before it applies gradients."""
        known = self._counted.get(id(optimizer))
        if known is None or known.optimizer is not optimizer:
            self._counted[id(optimizer)] = Counted(optimizer)

    def settle(self) -> None:
        """Note the steps that optimizers made since the last look."""
        for counted in list(self._counted.values()):
            self._advance(counted, counted.look())

    def _advance(self, counted: Counted, applied: int) -> None:
        if applied not in (0, 1):
            self._session.refuse(
                f"{type(counted.optimizer).__name__} made {applied} steps between two calls from Python, and "
                f"which records went into each cannot be told. {_ADVICE}"
            )
        elif applied and counted.advance():
            for listener in self.on_step:
                listener(counted.optimizer, self._size)
            self._session.stepped(counted.optimizer)

    def executed(self, abilities: frozenset[str]) -> None:
        """Note that a function has returned that was called from Python.

        Args:
          abilities: of its graph.
        """
        inside, self._inside = self._inside, []
        trains = GRADIENTS in abilities or STEPS in abilities
        if REPLICAS in abilities and trains:
            self._session.refuse(f"batches spread over several replicas by tf.distribute. {_ADVICE}")
        if inside and trains:
            self._in_rounds(inside)
            return
        for tap, marks in inside:  # evaluation
            self.taken(tap, marks)
        if GRADIENTS in abilities:
            self.gradients()
        if STEPS in abilities:
            self.settle()

    def _in_rounds(self, inside: list[tuple[Tap, list[int] | str]]) -> None:
        """Deal out batches of a function that took them itself, one of each iterator for each step."""
        by_tap: dict[int, list[tuple[Tap, list[int] | str]]] = {}
        for tap, marks in inside:
            by_tap.setdefault(id(tap), []).append((tap, marks))
        rounds = max(map(len, by_tap.values()))
        applied = {counted: counted.look() for counted in self._counted.values()}
        uneven = any(len(batches) != rounds for batches in by_tap.values())
        if uneven or any(number not in (0, rounds) for number in applied.values()):
            self._session.refuse(
                f"a tf.function took {len(inside)} batches and made {max(applied.values(), default=0)} steps in one "
                f"call: which batch went into which step cannot be told. {_ADVICE}"
            )
            return
        for number in range(rounds):
            self.forget()
            for batches in by_tap.values():
                self.taken(*batches[number])
            self.gradients()
            for counted, times in applied.items():
                self._advance(counted, min(times, 1))


_of_session: dict[Session, Executions] = {}


def executions_of(session: Session) -> Executions:
    """Give the one of a session, which all patches of TensorFlow and Keras report to."""
    return _of_session.setdefault(session, Executions(session))


def end(session: Session) -> None:
    """Forget the one of a session."""
    _of_session.pop(session, None)
