"""EpsilonInterval: a bracket around the epsilon of a mechanism, with everything it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from enum import Enum
from typing import Any

from dpaudit.scheme import ADJACENCIES, Adjacency, SamplingScheme, scheme_from_json, scheme_to_json

_EVERY_DIGIT = Context(prec=320)
"""The largest float has 309 digits before the point."""


class Basis(Enum):
    """What a bound rests on."""

    THEOREM = "theorem"
    """A closed form that a theorem proves."""
    ACCOUNTANT = "accountant"
    """A numerical composition with controlled error."""
    AUDIT = "audit"
    """A statistical statement, true with the stated confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonInterval:
    """`lower <= epsilon <= upper` for one delta, adjacency and unit of privacy.

    Two intervals compare only at equal delta, adjacency and unit: see `require_comparable`.
    """

    lower: float
    """The mechanism is not (epsilon, delta)-DP for any epsilon below; nats, unrounded, >= 0."""
    upper: float
    """The mechanism is (upper, delta)-DP; nats, unrounded; infinity where nothing is known."""
    delta: float
    adjacency: Adjacency
    unit: str = "record"
    """What one neighbour differs in: "record", or the name of a group such as "user"."""
    scheme: SamplingScheme | None = None
    method: str = ""
    """Short name of the method, e.g. "pld" or "closed form"."""
    basis: Basis = Basis.ACCOUNTANT
    confidence: float = 1.0
    """Probability that the bounds hold; 1 unless `basis` is AUDIT."""
    numerical_error: float = 0.0
    """Width that is due to arithmetic, in nats; it is already inside the bounds."""
    reference: str = ""
    """Where the method is proved: arXiv id and theorem."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if math.isnan(self.lower) or math.isnan(self.upper):
            raise ValueError("an epsilon bound is NaN")
        if not 0 <= self.lower <= self.upper:
            raise ValueError(f"expected 0 <= lower <= upper, got {self.lower!r} and {self.upper!r}")
        if not 0 <= self.delta < 1:
            raise ValueError(f"expected 0 <= delta < 1, got {self.delta!r}")
        if self.adjacency not in ADJACENCIES:
            raise ValueError(f"unknown adjacency {self.adjacency!r}; known: {', '.join(ADJACENCIES)}")
        if not 0 < self.confidence <= 1:
            raise ValueError(f"expected 0 < confidence <= 1, got {self.confidence!r}")

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON (see `json_number` for infinity)."""
        return {
            "lower": json_number(self.lower),
            "upper": json_number(self.upper),
            "delta": self.delta,
            "adjacency": self.adjacency,
            "unit": self.unit,
            "scheme": None if self.scheme is None else self.scheme.name,
            "parameters": None if self.scheme is None else scheme_to_json(self.scheme),
            "method": self.method,
            "basis": self.basis.value,
            "confidence": self.confidence,
            "numerical_error": json_number(self.numerical_error),
            "reference": self.reference,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> EpsilonInterval:
        """Rebuild an interval from `to_json`."""
        scheme = record.get("parameters")
        return cls(
            lower=float(record["lower"]),
            upper=float(record["upper"]),
            delta=record["delta"],
            adjacency=record["adjacency"],
            unit=record.get("unit", "record"),
            scheme=None if scheme is None else scheme_from_json(scheme),
            method=record.get("method", ""),
            basis=Basis(record.get("basis", "accountant")),
            confidence=record.get("confidence", 1.0),
            numerical_error=float(record.get("numerical_error", 0.0)),
            reference=record.get("reference", ""),
            notes=tuple(record.get("notes", ())),
        )


def require_comparable(one: EpsilonInterval, other: EpsilonInterval) -> None:
    """Refuse to compare guarantees of different meaning.

    Raises:
      ValueError: delta, adjacency or unit differ.
    """
    for field in ("delta", "adjacency", "unit"):
        if getattr(one, field) != getattr(other, field):
            raise ValueError(
                f"epsilons at different {field} do not compare: "
                f"{getattr(one, field)!r} and {getattr(other, field)!r}"
            )


def json_number(value: float) -> float | str:
    """Write infinity as the string "inf", which JSON can hold; `float("inf")` reads it back."""
    return "inf" if value == math.inf else float(value)


def format_upper(value: float, digits: int = 4) -> str:
    """Print an upper bound rounded up, so that what is printed is still an upper bound."""
    return _format(value, digits, ROUND_CEILING)


def format_lower(value: float, digits: int = 4) -> str:
    """Print a lower bound rounded down, so that what is printed is still a lower bound."""
    return _format(value, digits, ROUND_FLOOR)


def _format(value: float, digits: int, rounding: str) -> str:
    """Keep `digits` significant digits, never more than four decimals."""
    if math.isinf(value):
        return "∞"
    exact = Decimal(value)
    if exact == 0:
        return "0"
    decimals = min(4, max(0, digits - 1 - exact.adjusted()))
    rounded = exact.quantize(Decimal(1).scaleb(-decimals), rounding, _EVERY_DIGIT)
    return f"{rounded:f}"
