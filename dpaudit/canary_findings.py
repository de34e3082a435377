"""What a canary audit found: bounds, tests, scores in summary, and the mechanism tensor by tensor."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from dpaudit.findings import Alternative, HypothesisTest
from dpaudit.interval import EpsilonInterval, json_number

ThreatModel = Literal["white_box", "black_box"]
ValidityClass = Literal["claim", "iid", "any_dependence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryBound:
    """One lower bound on epsilon, and what it takes to believe it."""

    interval: EpsilonInterval
    """From the bound to infinity; its `method` names the estimator, its `confidence` the level."""
    validity: ValidityClass
    """What the bound assumes of how canaries depend on each other: the claim's own null, independence, or
    nothing; the notes of the interval say what it assumes of the mechanism."""
    threat_model: ThreatModel
    attack: str
    """The score in words: "likelihood ratio of the released updates"."""
    canaries: int
    """Canaries per run."""
    runs: int
    decides: bool = False
    """Whether the bound may refute the claim: its confidence is then that of the whole audit's gate."""

    def to_json(self) -> dict[str, Any]:
        """Give every field, those of the interval beside the others."""
        own = {name: getattr(self, name) for name in _BOUND_FIELDS}
        return {**self.interval.to_json(), **own}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CanaryBound:
        """Rebuild a bound from `to_json`."""
        own = {name: record[name] for name in _BOUND_FIELDS}
        return cls(interval=EpsilonInterval.from_json(record), **own)


_BOUND_FIELDS = ("validity", "threat_model", "attack", "canaries", "runs", "decides")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSummary:
    """Scores of one attack, in histograms: enough to draw them, too little to name a canary."""

    attack: str
    threat_model: ThreatModel
    bin_edges: tuple[float, ...]
    """Shape (bins + 1,), rising."""
    included: tuple[int, ...]
    """Scores of included canaries per bin, shape (bins,)."""
    excluded: tuple[int, ...]
    roc: tuple[tuple[float, float], ...]
    """(false positive rate, true positive rate), both rising."""
    claimed_curve: tuple[tuple[float, float], ...]
    """The same for the best attack that the claim allows; empty where the claim gives no curve."""
    area: float
    """Area under `roc`, from the scores themselves."""

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ScoreSummary:
        """Rebuild a summary from `to_json`.

        Raises:
          ValueError: the edges do not rise, or there is not one count for each bin.
        """
        edges = tuple(float(edge) for edge in record["bin_edges"])
        if not all(-math.inf < low < high < math.inf for low, high in pairwise(edges)):
            raise ValueError(f"the edges of bins must rise, not be {edges!r}"[:200])
        if {len(record["included"]), len(record["excluded"])} != {max(0, len(edges) - 1)}:
            raise ValueError("a histogram of scores needs one count for each bin")
        return cls(
            attack=record["attack"],
            threat_model=record["threat_model"],
            bin_edges=edges,
            included=tuple(record["included"]),
            excluded=tuple(record["excluded"]),
            roc=_points(record["roc"]),
            claimed_curve=_points(record["claimed_curve"]),
            area=float(record["area"]),
        )


def _points(rows: list[list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismRow:
    """Noise and sensitivity that were measured on one parameter tensor, in units of the claim."""

    tensor: str
    """Name of the parameter."""
    observations: int
    """Released coordinates that nothing but noise reached."""
    noise_ratio: float
    """Standard deviation of the noise over the claimed one."""
    noise_low: float
    """Confidence limits of `noise_ratio`, at `confidence`."""
    noise_high: float
    sensitivity: float | None = None
    """Mean of what one participation adds, over the clip norm; None where no canary lives here."""
    sensitivity_low: float | None = None
    sensitivity_high: float | None = None
    confidence: float = 0.95

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return {
            name: json_number(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> MechanismRow:
        """Rebuild a row from `to_json`."""
        texts = ("tensor", "observations")
        numbers = {
            name: None if value is None else float(value)
            for name, value in record.items()
            if name not in texts
        }
        return cls(tensor=record["tensor"], observations=record["observations"], **numbers)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEvidence:
    """All that one canary audit found."""

    bounds: tuple[CanaryBound, ...] = ()
    tests: tuple[HypothesisTest, ...] = ()
    """Of the claimed mechanism, decided together at `family_wise_error`."""
    family_wise_error: float = 1e-3
    """Probability that any test or deciding bound speaks against a true claim."""
    contradicts_claim: bool = False
    """A test excludes the claimed mechanism, and not by more noise than was claimed."""
    alternatives: tuple[Alternative, ...] = ()
    """Deviations and whether this audit would have shown them; `steps_needed` counts further steps."""
    scores: tuple[ScoreSummary, ...] = ()
    mechanism: tuple[MechanismRow, ...] = ()
    setting: tuple[tuple[str, str], ...] = ()
    """What was run, as pairs of label and value: model, data, sampler, steps, seed, seconds."""
    plan: str = ""
    """Fingerprint of the choices that were fixed before the inclusion of canaries was looked at."""
    notes: tuple[str, ...] = ()

    @property
    def deciding(self) -> tuple[EpsilonInterval, ...]:
        """The bounds that may refute a claim."""
        return tuple(bound.interval for bound in self.bounds if bound.decides)

    @property
    def rejections(self) -> tuple[HypothesisTest, ...]:
        """The rejected tests."""
        return tuple(test for test in self.tests if test.rejected)

    @property
    def unseen(self) -> tuple[Alternative, ...]:
        """Alternatives of interest that this audit would not have shown."""
        return tuple(one for one in self.alternatives if one.unseen)

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON; no score and no canary is in it."""
        return {
            "bounds": [bound.to_json() for bound in self.bounds],
            "tests": [test.to_json() for test in self.tests],
            "family_wise_error": self.family_wise_error,
            "contradicts_claim": self.contradicts_claim,
            "alternatives": [asdict(one) for one in self.alternatives],
            "scores": [summary.to_json() for summary in self.scores],
            "mechanism": [row.to_json() for row in self.mechanism],
            "setting": [list(pair) for pair in self.setting],
            "plan": self.plan,
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CanaryEvidence:
        """Rebuild the evidence from `to_json`."""
        return cls(
            bounds=tuple(CanaryBound.from_json(row) for row in record["bounds"]),
            tests=tuple(HypothesisTest.from_json(row) for row in record["tests"]),
            family_wise_error=float(record["family_wise_error"]),
            contradicts_claim=bool(record["contradicts_claim"]),
            alternatives=tuple(Alternative(**row) for row in record["alternatives"]),
            scores=tuple(ScoreSummary.from_json(row) for row in record["scores"]),
            mechanism=tuple(MechanismRow.from_json(row) for row in record["mechanism"]),
            setting=tuple((str(label), str(value)) for label, value in record["setting"]),
            plan=str(record["plan"]),
            notes=tuple(record["notes"]),
        )
