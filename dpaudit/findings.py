"""Evidence as pure records: what was tested, observed and computed. They hold, they do not decide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from dpaudit.interval import json_number
from dpaudit.scheme import SamplingScheme, scheme_from_json, scheme_to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class HypothesisTest:
    """One test of one null hypothesis."""

    rule: str
    """Stable rule id, e.g. "DPA103"."""
    name: str
    """Short name, e.g. "overlap of neighbouring steps"."""
    null_hypothesis: str
    """What is tested, as a sentence without full stop."""
    statistic: float
    p_value: float
    """In [0, 1]; super-uniform under the null hypothesis."""
    adjusted_p_value: float
    """Adjusted for all tests of the battery (Holm)."""
    rejected: bool
    """Whether the adjusted p-value is at or below the family-wise significance."""
    effect: float | None = None
    """Observed size of the deviation, in `effect_unit`."""
    effect_unit: str = ""
    detectable_effect: float | None = None
    """Smallest deviation that would have been rejected with probability 0.8, in `effect_unit`."""

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return {
            "rule": self.rule,
            "name": self.name,
            "null_hypothesis": self.null_hypothesis,
            "statistic": json_number(self.statistic),
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
            "rejected": self.rejected,
            "effect": None if self.effect is None else json_number(self.effect),
            "effect_unit": self.effect_unit,
            "detectable_effect": None
            if self.detectable_effect is None
            else json_number(self.detectable_effect),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> HypothesisTest:
        """Rebuild a test from `to_json`."""
        numbers = {
            key: None if record.get(key) is None else float(record[key])
            for key in ("effect", "detectable_effect")
        }
        return cls(**{**record, **numbers, "statistic": float(record["statistic"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class RateEstimate:
    """The sampling rate: claimed, estimated, and its confidence interval."""

    claimed: float
    estimate: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A deviation from the claim, and whether the steps seen would have shown it."""

    name: str
    """What it is, to follow "would show": "a shuffled epoch", "a rate error of 10 %"."""
    power: float
    """Probability that the battery rejects it at the family-wise significance, in [0, 1]."""
    steps_needed: int | None
    """Steps that show it with probability 0.9; None where no number of steps does."""
    of_interest: bool
    """Whether an audit that cannot see it must stay inconclusive."""

    @property
    def unseen(self) -> bool:
        """Whether the audit cannot conclude because of it."""
        return self.of_interest and self.power < _ENOUGH_POWER


# An alternative counts as visible from this power on.
_ENOUGH_POWER = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedScheme:
    """What a trace shows of the sampling."""

    scheme: SamplingScheme
    """The scheme that fits best; the claimed one while nothing contradicts it."""
    description: str
    """The scheme in words, to follow "what runs is": "shuffled epochs of 20 batches of 100"."""
    rejects_poisson: bool
    """Poisson sampling at the claimed rate is rejected at the family-wise significance."""
    contradicts_claim: bool
    """The claimed scheme is excluded; equals `rejects_poisson` for a claim of Poisson sampling."""
    tests: tuple[HypothesisTest, ...]
    compatible: tuple[SamplingScheme, ...]
    """Every scheme, with parameters, that the trace leaves open; `scheme` is the first."""
    rate: RateEstimate
    alternatives: tuple[Alternative, ...]
    steps: int
    num_records: int
    draws: int
    family_wise_error: float
    """Probability of any rejection where sampling is Poisson at the claimed rate."""
    notes: tuple[str, ...] = ()

    @property
    def rejections(self) -> tuple[HypothesisTest, ...]:
        """The rejected tests."""
        return tuple(test for test in self.tests if test.rejected)

    @property
    def unseen(self) -> tuple[Alternative, ...]:
        """Alternatives of interest that this many steps would not have shown."""
        return tuple(one for one in self.alternatives if one.unseen)

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON; no record number and no batch is in it."""
        return {
            "scheme": scheme_to_json(self.scheme),
            "description": self.description,
            "rejects_poisson": self.rejects_poisson,
            "contradicts_claim": self.contradicts_claim,
            "tests": [test.to_json() for test in self.tests],
            "compatible": [scheme.name for scheme in self.compatible],
            "compatible_schemes": [scheme_to_json(scheme) for scheme in self.compatible],
            "rate": {
                "claimed": self.rate.claimed,
                "estimate": self.rate.estimate,
                "low": self.rate.low,
                "high": self.rate.high,
                "confidence": self.rate.confidence,
            },
            "alternatives": [
                {
                    "name": one.name,
                    "power": one.power,
                    "steps_needed": one.steps_needed,
                    "of_interest": one.of_interest,
                }
                for one in self.alternatives
            ],
            "steps": self.steps,
            "num_records": self.num_records,
            "draws": self.draws,
            "family_wise_error": self.family_wise_error,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ObservedScheme:
        """Rebuild an observation from `to_json`.

        Raises:
          ValueError: a number is out of its range.
        """
        if min(record["steps"], record["num_records"], record["draws"]) < 0:
            raise ValueError("steps, records and draws cannot be below 0")
        if not 0 <= record["rate"]["claimed"] <= 1:
            raise ValueError(f"a sampling rate cannot be {record['rate']['claimed']!r}")
        values = {key: value for key, value in record.items() if key != "compatible_schemes"}
        return cls(
            **{
                **values,
                "scheme": scheme_from_json(record["scheme"]),
                "tests": tuple(HypothesisTest.from_json(test) for test in record["tests"]),
                "compatible": tuple(scheme_from_json(one) for one in record["compatible_schemes"]),
                "rate": RateEstimate(**record["rate"]),
                "alternatives": tuple(Alternative(**one) for one in record["alternatives"]),
                "notes": tuple(record["notes"]),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSummary:
    """Histograms of a trace: enough to draw it, too little to tell who was in which batch."""

    batch_sizes: tuple[tuple[int, int], ...]
    """(size, number of steps of that size), rising; bins' lower edges where `batch_size_bin` > 1."""
    batch_size_bin: int
    inclusions: tuple[tuple[int, int], ...]
    """(steps a record took part in, number of such records), likewise."""
    inclusion_bin: int
    overlaps: tuple[tuple[int, float, float], ...] = ()
    """(steps apart, records in both steps, the same expected of independent draws), summed over pairs
    of steps; lower edges of bins where `overlap_bin` > 1. Empty where it was not computed."""
    overlap_bin: int = 1
    epoch: int = 0
    """Steps after which a record is expected to return; 0 where it is not known."""
    places: tuple[tuple[float, ...], ...] = ()
    """Entry [i][j]: records in part i of an epoch and part j of the next, over the number expected."""

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return {
            "batch_sizes": [list(pair) for pair in self.batch_sizes],
            "batch_size_bin": self.batch_size_bin,
            "inclusions": [list(pair) for pair in self.inclusions],
            "inclusion_bin": self.inclusion_bin,
            "overlaps": [list(row) for row in self.overlaps],
            "overlap_bin": self.overlap_bin,
            "epoch": self.epoch,
            "places": [list(row) for row in self.places],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> TraceSummary:
        """Rebuild a summary from `to_json`; what is about returns may be missing.

        Raises:
          ValueError: a bin is empty.
        """
        widths = (record["batch_size_bin"], record["inclusion_bin"], record.get("overlap_bin", 1))
        if min(widths) < 1:
            raise ValueError(f"bins of width {min(widths)}")
        return cls(
            batch_sizes=tuple((int(value), int(count)) for value, count in record["batch_sizes"]),
            batch_size_bin=record["batch_size_bin"],
            inclusions=tuple((int(value), int(count)) for value, count in record["inclusions"]),
            inclusion_bin=record["inclusion_bin"],
            overlaps=tuple((int(lag), float(x), float(y)) for lag, x, y in record.get("overlaps", ())),
            overlap_bin=int(record.get("overlap_bin", 1)),
            epoch=int(record.get("epoch", 0)),
            places=tuple(tuple(float(ratio) for ratio in row) for row in record.get("places", ())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonSeries:
    """The epsilon of one scheme along delta or along the steps, for a figure."""

    role: Literal["claimed", "observed"]
    scheme: str
    """Name of the scheme."""
    axis: Literal["delta", "steps"]
    at: tuple[float, ...]
    """Values of the axis, rising."""
    lower: tuple[float, ...]
    """Nats; shape that of `at`."""
    upper: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return {
            "role": self.role,
            "scheme": self.scheme,
            "axis": self.axis,
            "at": list(self.at),
            "lower": [json_number(value) for value in self.lower],
            "upper": [json_number(value) for value in self.upper],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> EpsilonSeries:
        """Rebuild a series from `to_json`.

        Raises:
          ValueError: role or axis is unknown, or the lengths differ.
        """
        numbers = {name: tuple(float(value) for value in record[name]) for name in ("at", "lower", "upper")}
        if record["role"] not in ("claimed", "observed") or record["axis"] not in ("delta", "steps"):
            raise ValueError(f"unknown curve {record['role']!r} over {record['axis']!r}")
        if len({len(values) for values in numbers.values()}) != 1:
            raise ValueError("the values of a curve differ in number")
        if not all(0 < value < math.inf for value in numbers["at"]):
            raise ValueError(f"a curve over {record['axis']} cannot be at {numbers['at']!r}")
        return cls(role=record["role"], scheme=str(record["scheme"]), axis=record["axis"], **numbers)
