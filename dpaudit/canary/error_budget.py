"""Error spent over reruns, so that running a gate until it is green does not work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """A significance shared by all reruns of one gate, and the p-values seen so far.

    Attempt n is decided at level a_n = significance * 6 / (pi^2 n^2). The chance that a true claim is ever
    refuted stays below the significance, for any number of reruns and any rule of when to stop:

        Let p_n be the p-value of attempt n, and let P(p_n <= a | attempts before n) <= a under the claim
        for every a, which holds since every attempt is a fresh run. Whether attempt n is made at all may
        depend on the attempts before it; then P(n is made and p_n <= a_n) <= a_n still. "Ever refuted" is
        the union of these events over n, and the sum over n of a_n is significance * (6 / pi^2) *
        (pi^2 / 6) = significance.

    For this an attempt counts from when it begins: one that was broken off before its p-value was written
    down may have been broken off because of it. And a refutation stands, whatever later attempts show.

    Raises:
      ValueError: significance or a p-value is out of range.
    """

    significance: float
    p_values: tuple[float | None, ...] = ()
    """Of each attempt, in the order they began; None for one that has not ended."""

    def __post_init__(self) -> None:
        if not 0 < self.significance < 1:
            raise ValueError(f"expected 0 < significance < 1, got {self.significance!r}")
        for p_value in self.p_values:
            if p_value is not None and not 0 <= p_value <= 1:
                raise ValueError(f"p-value {p_value!r} is outside [0, 1]")

    @property
    def attempts(self) -> int:
        """Number of attempts begun."""
        return len(self.p_values)

    @property
    def next_level(self) -> float:
        """Level at which the next attempt is decided."""
        return spending(self.significance, self.attempts + 1)

    @property
    def refuted(self) -> bool:
        """Whether any attempt so far refuted the claim."""
        return any(
            p_value is not None and p_value <= spending(self.significance, attempt)
            for attempt, p_value in enumerate(self.p_values, start=1)
        )

    def begin(self) -> ErrorBudget:
        """Count one more attempt, whose p-value is not known yet."""
        return ErrorBudget(self.significance, (*self.p_values, None))

    def settle(self, attempt: int, p_value: float) -> ErrorBudget:
        """Write down the p-value of an attempt that was begun.

        Raises:
          ValueError: no such attempt, or its p-value is there already.
        """
        if not 1 <= attempt <= self.attempts or self.p_values[attempt - 1] is not None:
            raise ValueError(f"attempt {attempt} of {self.attempts} was not begun, or is settled already")
        before, after = self.p_values[: attempt - 1], self.p_values[attempt:]
        return ErrorBudget(self.significance, (*before, p_value, *after))

    def spend(self, p_value: float) -> ErrorBudget:
        """Begin one more attempt and settle it."""
        return ErrorBudget(self.significance, (*self.p_values, p_value))

    def to_json(self) -> dict[str, Any]:
        """Give what a spending file holds."""
        return {"significance": self.significance, "p_values": list(self.p_values)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ErrorBudget:
        """Rebuild a budget from `to_json`.

        Raises:
          ValueError: the record is malformed.
        """
        try:
            values = tuple(None if value is None else float(value) for value in record["p_values"])
            return cls(float(record["significance"]), values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"malformed error budget: {error}") from error


def spending(significance: float, attempt: int) -> float:
    """Give the level of one attempt; the levels of all attempts sum to `significance`.

    Raises:
      ValueError: attempt below 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt = {attempt} must be at least 1")
    return significance * 6 / (math.pi * attempt) ** 2
