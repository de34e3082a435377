"""What a test that runs along with a program does, and who makes it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dpaudit.instrument.facts import LoaderFacts


class StepTest(Protocol):
    """Tests the steps of one training as they come."""

    @property
    def refuted(self) -> bool:
        """Whether the claim is refuted."""

    def update(self, batch: npt.NDArray[np.integer[Any]]) -> object:
        """Take the record numbers of the next step."""

    def start_pass(self) -> None:
        """Learn that the loader is iterated anew."""


class Examiner(Protocol):
    """Makes tests, and tells what they find."""

    stop: bool
    """Whether a refutation ends the program."""

    def begin(self, num_records: int | None, facts: LoaderFacts) -> StepTest | None:
        """Make a test; None while there is no claim that could be tested."""

    def may_begin(self, facts: LoaderFacts) -> bool:
        """Tell whether a test could be made by now."""

    def stepped(self, test: StepTest) -> None:
        """Learn that a test has taken a step."""

    def withdrawn(self) -> None:
        """Learn that a refutation was of steps that turned out to be others."""

    def cannot(self, why: str) -> None:
        """Learn that there will be no test of these steps."""
