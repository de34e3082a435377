"""Steps that compiled code makes: it tells them while it runs, which may be after the program has gone on.

They are taken in before the next batch comes, so that each step stands where it was made.
"""

from __future__ import annotations

import contextlib
from array import array
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dpaudit.instrument.script.step_names import RELEASE

UNTOLD = -1


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class LateOptimizer:
    """What stands for an optimizer where there is no object that steps."""

    name: str
    """RELEASE, or UPDATE: of parameters, noisy or not."""
    gradients: array[int] = field(default_factory=lambda: array("q"))
    """Records whose gradients each step holds, counted where they are clipped; UNTOLD: not known."""


class Stepping(Protocol):
    """What a session does with steps."""

    @property
    def passes(self) -> int:
        """Passes over batches that have begun so far."""

    def use(self) -> None:
        """Note that gradients were taken."""

    def stepped(self, optimizer: object, name: str = "") -> None:
        """Note a step of an optimizer."""


class LateSteps:
    """The steps that were told and not taken in yet; what tells them may call from any thread."""

    def __init__(self) -> None:
        self.wait: Callable[[], None] = lambda: None
        """Returns once all code that was started has told its steps."""
        self.devices: Callable[[], int] = lambda: 1
        self.accumulates = False
        """Whether the program makes an optimizer that does not step at each update."""
        self.uncounted = 0
        """Steps that were told by several devices."""
        self._told: deque[LateOptimizer | None] = deque()
        """Steps, and None where the state of an optimizer was made."""
        self._training, self._begun, self._passes = 0, False, 0
        """How many trainings have come before; whether a state was made since the last step; passes then."""
        self._clipped: deque[int] = deque()
        self._waiting: int | None = None
        """Records whose gradients wait for the step that they go into; None: nothing counts them."""
        self._optimizers: dict[Hashable, LateOptimizer] = {}

    @property
    def optimizers(self) -> list[LateOptimizer]:
        """All that told steps."""
        return list(self._optimizers.values())

    def optimizer(self, name: str, shape: Hashable) -> LateOptimizer:
        """Give the one for parameters of this shape; code is compiled anew for each batch size."""
        return self._optimizers.setdefault((name, shape), LateOptimizer(name))

    def tell(self, optimizer: LateOptimizer) -> None:
        """Note a step, to be taken in later."""
        self._told.append(optimizer)

    def tell_begun(self) -> None:
        """Note that the state of an optimizer was made: with a new pass, another training begins."""
        self._told.append(None)

    def tell_clipped(self, records: int) -> None:
        """Note of how many records gradients were clipped and summed."""
        self._clipped.append(int(records))

    def take_in(self, session: Stepping) -> None:
        """Report the steps that were told."""
        with contextlib.suppress(Exception):  # what fails in the program's own code is for the program to see
            self.wait()
        told = deque(self._by_training(session.passes))
        if told and self.devices() > 1:
            self.uncounted += len(told)
            told.clear()
        self._count(told)
        since: set[LateOptimizer] = set()
        while told:
            optimizer = told.popleft()
            # Noise, update and other models share a batch; the second step of one is that of a loop.
            if not since or optimizer in since:
                session.use()
                since.clear()
            since.add(optimizer)
            session.stepped(optimizer, optimizer.name)

    def _by_training(self, passes: int) -> Iterator[LateOptimizer]:
        """Take the steps that were told, those of each training by an optimizer of its own."""
        while self._told:
            optimizer = self._told.popleft()
            if optimizer is None:
                self._begun = True
                continue
            self._training += self._begun and 0 < self._passes < passes
            self._begun, self._passes = False, passes
            yield self.optimizer(optimizer.name, (optimizer, self._training)) if self._training else optimizer

    def _count(self, told: Collection[LateOptimizer]) -> None:
        """Give the gradients that were counted to the step that was made; of several it is not told which."""
        while self._clipped:
            self._waiting = (self._waiting or 0) + self._clipped.popleft()
        released = [one for one in told if one.name == RELEASE] or list(told)
        known = len(released) == 1 and not self.accumulates and self._waiting is not None
        for one in told:
            one.gradients.append(self._waiting or 0 if known and one is released[0] else UNTOLD)
        if told:
            self._waiting = None
