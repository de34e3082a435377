"""The neutral view model: what a report says, as plain strings that every format lays out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """One part of the claim, for a reader who reads one page only."""

    part: str
    status: str
    """CHECKED, PARTLY or NOT CHECKED."""
    finding: str


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of the claim."""

    label: str
    value: str
    status: str
    remark: str


@dataclass(frozen=True, slots=True)
class TestRow:
    """One hypothesis test; `__test__` keeps pytest from collecting it."""

    __test__ = False
    rule: str
    name: str
    null_hypothesis: str
    p_value: str
    result: str
    effect: str
    detectable: str


@dataclass(frozen=True, slots=True)
class EpsilonRow:
    """One interval, in words and in numbers."""

    role: str
    scheme: str
    lower: str
    upper: str
    method: str
    reference: str
    low: float
    """The unrounded ends, for drawing."""
    high: float


@dataclass(frozen=True, slots=True)
class CurveTable:
    """Epsilon along one axis, the numbers behind a figure."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class BoundRow:
    """The lower bounds of one method on one attack."""

    method: str
    deciding: str
    """The bound that may refute the claim, with its confidence; empty where none does."""
    reported: str
    """The bound at the usual confidence, with it; empty where there is none."""
    threat_model: str
    canaries: str
    """Canaries, and runs where there were several."""
    assumes: str
    attack: str
    reference: str
    remarks: str
    low: float
    """The deciding bound, else the reported one, unrounded, for drawing."""
    reported_low: float | None


@dataclass(frozen=True, slots=True)
class TensorRow:
    """Noise and sensitivity of one parameter tensor."""

    tensor: str
    observations: str
    noise: str
    noise_word: str
    """Where the interval lies: AS CLAIMED, LESS, MORE."""
    sensitivity: str
    sensitivity_word: str
    """Empty where no canary lives in the tensor."""


@dataclass(frozen=True, slots=True)
class WaiverRow:
    """One waiver that met a finding of this report."""

    rule: str
    finding: str
    reason: str
    until: str
    approved_by: str
    state: str
    """IN FORCE or EXPIRED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySection:
    """All that is said of canaries and of the mechanism."""

    seen: tuple[str, ...] = ()
    bounds: tuple[BoundRow, ...] = ()
    bounds_caption: str = ""
    legend: tuple[str, ...] = ()
    """What the words in the table of bounds mean, each once."""
    tests: tuple[TestRow, ...] = ()
    tests_caption: str = ""
    mechanism: tuple[TensorRow, ...] = ()
    mechanism_caption: str = ""
    setting: tuple[tuple[str, str], ...] = ()
    visible: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that a report says, ready to be laid out."""

    kind: str
    """What sort of audit, in words."""
    title: str
    target: str
    outcome: str
    headline: str
    reasons: tuple[str, ...]
    claim: str
    meaning: str
    """What the claim promises, without symbols; empty where no epsilon is claimed."""
    scope: tuple[ScopeRow, ...]
    seen: tuple[str, ...]
    fields: tuple[FieldRow, ...]
    tests: tuple[TestRow, ...]
    epsilons: tuple[EpsilonRow, ...]
    epsilons_caption: str
    curves: tuple[CurveTable, ...]
    canary: CanarySection
    visible: tuple[str, ...]
    advice: tuple[str, ...]
    limits: tuple[str, ...]
    waivers: tuple[WaiverRow, ...]
    notes: tuple[str, ...]
    command: str
    environment: tuple[tuple[str, str], ...]
