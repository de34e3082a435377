"""What a TensorFlow program does, told from the calls that it makes from Python.

Python code inside a `tf.function` runs only while it is traced. So what its graph can do (take gradients,
apply them) is noted then; each run tells the batches that it takes from an iterator, and how many steps it
made is read off the optimizer's own counter. What this does not tell is refused, and never guessed.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.instrument.carried import Carried
from dpaudit.instrument.script.feed import Pass
from dpaudit.instrument.script.rows import UnreadableBatchError, row_marks
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.taps import Tap
from dpaudit.instrument.script.tf_datasets import Pipeline

GRADIENTS, STEPS, LOOPS, REPLICAS = "gradients", "steps", "loops", "replicas"
"""What the graph of a function can do; LOOPS: take any number of batches."""

_SAY = "Or say the records: dpaudit.step(records) at the end of each step."
_MANY = (
    "A tf.function takes several batches in one call (steps_per_execution, or a loop over a data set inside "
    f"it): which of them went into which step cannot be told. Take one batch for each call. {_SAY}"
)
_REPLICAS = f"tf.distribute spreads batches over replicas, which is not followed. Train on one. {_SAY}"
_SEVERAL = (
    "Batches of several iterators over one data set went into the same gradients, which is not followed. "
    f"Take them from one. {_SAY}"
)
_UNKNOWN = f"An iterator that is made inside a tf.function cannot be followed. Make it outside. {_SAY}"
_JOINED = (
    "Gradients of one batch were taken before some steps, and of several before others: whether they were "
    f"summed or thrown away cannot be told. Make a step for each batch, or sum a fixed number of them. {_SAY}"
)
_AGAIN = (
    "A batch went into more than one step: whether each used all of it, or a part that the program cuts from "
    f"it, cannot be told. Take a new batch for each step. {_SAY}"
)
_FAILED = f"A tf.function failed: whether it made its step cannot be told. {_SAY}"
_SHAPES = (
    "Rows of tf.data batches have another shape or type in other batches, as when each batch is padded to "
    f"its longest record: their content does not tell which records they are. Pad all to one length. {_SAY}"
)


@dataclass(slots=True)
class _Work:
    """How much was put to use so far."""

    batches: int = 0
    """Different ones that hold records."""
    empty: int = 0
    gradients: int = 0


class Counted:
    """An optimizer that counts how often it applied gradients."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self._applied = self._place = self._read()
        self._work = _Work()
        self._sizes: set[int] = set()

    def _read(self) -> int:
        count = self.optimizer._iterations  # the property of Keras 2 would create it
        return 0 if count is None else int(np.asarray(count))

    def look(self) -> int:
        """Give how often gradients were applied since the last look."""
        before, self._applied = self._applied, self._read()
        return self._applied - before

    def advance(self) -> bool:
        """Go over one application; tell whether weights moved, and not only a sum of gradients."""
        self._place += 1
        every = getattr(self.optimizer, "gradient_accumulation_steps", None) or 1
        return self._place % int(every) == 0

    def doubt(self, work: _Work) -> str:
        """Say why what went into the step that is made now cannot be told; "" if it can."""
        before, self._work = self._work, _Work(work.batches, work.empty, work.gradients)
        batches = work.batches - before.batches
        if batches:
            self._sizes.add(batches)
        elif work.batches and work.empty == before.empty and work.gradients > before.gradients:
            return _AGAIN
        return _JOINED if len(self._sizes) > 1 else ""


@dataclass(slots=True)
class _Fresh:
    """The latest batch of an iterator."""

    tap: Tap
    records: int
    source: Pass | None = None
    problem: str = ""
    used: bool = False

    @property
    def is_over(self) -> bool:
        """Whether its iterator has come to its end, or was dropped."""
        return self.tap.dropped.yet or (self.source is not None and self.source.ended)


@dataclass(frozen=True, slots=True)
class Taken:
    """A batch that a running function took from an iterator."""

    tap: Tap | None
    """None: of an iterator that is not known."""
    marks: list[int]
    problem: str = ""
    error: Exception | None = None
    """Of the recording, which must not show in TensorFlow's threads."""


class Executions:
    """One for each session; iterators, functions and optimizers report to it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.depth = 0
        """Above 0 while a function or an optimizer runs: what happens inside it is told at its end."""
        self.described: weakref.WeakKeyDictionary[Any, Pipeline] = weakref.WeakKeyDictionary()
        """Data sets of which is known what they were made from."""
        self.on_step: list[Callable[[Any, int], None]] = []
        """Called with the optimizer, and the records of the latest batches, at each step."""
        self.is_given = False
        self._latest = 0
        self._inside: list[Taken] = []
        self._fresh: dict[int, _Fresh] = {}
        self._consumed = self._spread = False
        self._work = _Work()
        self._handed = 0
        self._shapes: dict[int, Any] = {}
        self._counted: dict[int, Counted] = {}

    def refuse(self, why: str) -> None:
        """Give no verdict, for this reason if it is the first."""
        self._session.unfollowable = self._session.unfollowable or why

    # Batches

    def read(self, tap: Tap, columns: list[Any], problem: str = "") -> Taken:
        """Tell the records of a batch by the content of its rows."""
        if problem:
            return Taken(tap, [], problem)
        shapes = [(column.dtype, column.shape[1:]) for column in columns]
        if self._shapes.setdefault(id(tap.feed), shapes) != shapes:
            return Taken(tap, [], _SHAPES)
        try:
            return Taken(tap, row_marks(columns))
        except UnreadableBatchError as error:
            return Taken(tap, [], f"Batches of tf.data cannot be followed: {error}. {_SAY}")

    def taken_inside(self, batch: Taken) -> None:
        """Keep a batch that a running function took; called on TensorFlow's threads."""
        self._inside.append(batch)

    def taken(self, batch: Taken) -> None:
        """Take a batch that was handed to the program."""
        tap = batch.tap
        assert tap is not None
        if self._consumed:
            self._fresh.clear()
            self._consumed = False
        if batch.problem:
            self._session.unfollowed(batch.problem)
            self._fresh[id(tap)] = _Fresh(tap, 0, problem=batch.problem)
            return
        self._session.fetched(tap, Carried(batch.marks, None))
        source = tap.started
        self._fresh[id(tap)] = _Fresh(tap, len(batch.marks), source)
        if source is not None and source.delivered == tap.length:
            self._session.ended(tap)

    @contextlib.contextmanager
    def given(self) -> Iterator[None]:
        """Know that data sets made in this block hold a batch that was taken already."""
        self.is_given = True
        try:
            yield
        finally:
            self.is_given = False

    def spread(self) -> None:
        """Note that a batch was handed out in parts, one for each replica."""
        self._spread = True

    # Gradients and steps

    def gradients(self) -> None:
        """Note gradients: of all batches since the last ones, or of the same batches again."""
        self._consumed = True
        self._work.gradients += 1
        latest = self._session.latest
        live = [one for one in self._fresh.values() if not one.is_over or one.source is latest]
        for one in live:
            if one.problem:
                self.refuse(one.problem)
        new = [one for one in live if not one.used and not one.problem]
        if len({id(one.tap.feed) for one in new}) < len(new):
            self.refuse(_SEVERAL)
        if live:
            self._latest = sum(one.records for one in live)
            self._add(sum(one.records for one in new), bool(new))
            self._session.used(dict.fromkeys(one.tap.feed for one in live if not one.problem))
        else:  # batches of other loaders
            self._add(1, self._session.batches > self._handed)
            self._session.backward()
        self._handed = self._session.batches
        for one in new:
            one.used = True

    def _add(self, records: int, is_new: bool) -> None:
        self._work.batches += is_new and records > 0
        self._work.empty += is_new and records == 0

    def count(self, optimizer: Any) -> None:
        """Follow an optimizer, before it applies gradients."""
        while hasattr(optimizer, "inner_optimizer"):  # of scaled gradients, which may be thrown away
            optimizer = optimizer.inner_optimizer
        if id(optimizer) not in self._counted:
            self._counted[id(optimizer)] = Counted(optimizer)

    def settle(self) -> None:
        """Note the steps that optimizers made since the last look."""
        for counted in list(self._counted.values()):
            applied = counted.look()
            if applied not in (0, 1):
                self.refuse(_MANY)
            elif applied and counted.advance():
                self.refuse(counted.doubt(self._work))
                for listener in self.on_step:
                    listener(counted.optimizer, self._latest)
                self._session.stepped(counted.optimizer)

    def failed(self, at_end: bool) -> None:
        """Note that a function has failed, mostly at the end of its iterator.

        Parts of it that need no batch have run, as the counting of the step that was not made.
        """
        self._inside.clear()
        applied = [counted.look() for counted in self._counted.values()]
        if any(applied) and not at_end:
            self.refuse(_FAILED)

    def executed(self, abilities: Iterable[str], outputs: Callable[[], list[Any]]) -> None:
        """Note that a function has returned that was called from Python.

        Args:
          abilities: of its graph.
          outputs: the arrays that it gave.
        """
        inside, self._inside = self._inside, []
        able = {*abilities}
        if not able & {GRADIENTS, STEPS}:
            for batch in inside:  # used up, for it evaluates; or it gives them as they are
                if batch.tap is not None and batch.marks and batch == self.read(batch.tap, outputs()):
                    self.taken(batch)
            return
        if REPLICAS in able or self._spread:
            self.refuse(_REPLICAS)
        if LOOPS in able or len({id(batch.tap) for batch in inside}) < len(inside):
            self.refuse(_MANY)
        for batch in inside:
            if batch.error is not None:
                raise batch.error
            if batch.tap is None:
                self.refuse(_UNKNOWN)
            else:
                self.taken(batch)
        if GRADIENTS in able:
            self.gradients()
        self.settle()


_of_session: dict[Session, Executions] = {}


def executions_of(session: Session) -> Executions:
    """Give the one of a session, which the patches of TensorFlow and of Keras report to."""
    return _of_session.setdefault(session, Executions(session))


def end(session: Session) -> None:
    """Forget the one of a session."""
    _of_session.pop(session, None)
