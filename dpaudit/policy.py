"""What a project demands of its audits, and the findings it answers for: the records of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

LEVELS = ("error", "warn", "off")
INCONCLUSIVE_LEVELS = ("inconclusive", *LEVELS)
"""Exit codes 3, 1, 0 and 0."""
EXPIRED_WAIVER = "DPA405"
"""The one rule whose level is fixed: an expired waiver always fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """What a set of audit reports must satisfy."""

    max_epsilon: float | None = None
    required: tuple[str, ...] = ()
    required_fields: tuple[str, ...] = ()
    inconclusive: str = "inconclusive"
    rules: Mapping[str, str] = field(default_factory=dict)
    """Level by rule id. Rules of verdicts and of the gate fail where they are not named; a single
    rejected test (DPA102 to DPA124) counts by itself only where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A finding that somebody answers for, for a time."""

    rule: str
    reason: str
    until: date
    """Last day on which it holds."""
    approved_by: str
    audit: str | None = None
    """Name of the one audit it is for; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedWaiver:
    """A waiver that met a finding of one report, as the report shows it."""

    rule: str
    finding: str
    """The sentence that it waives, or would waive if it had not expired."""
    reason: str
    until: date
    approved_by: str
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GateFinding:
    """One thing that the gate has to say."""

    level: str
    """"error" fails the gate, "inconclusive" makes it inconclusive, "warn" and "waived" do not count."""
    rule: str
    audit: str
    """Name of the audit, or "" for the set."""
    sentence: str
    file: str = ""
    """Where to look, if not at what was audited."""
