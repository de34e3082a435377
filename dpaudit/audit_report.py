"""AuditReport: claim, evidence, verdict and provenance in one record. Its JSON is the source of truth."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args

from dpaudit.canary_findings import CanaryEvidence
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import DpauditError
from dpaudit.evidence import Evidence
from dpaudit.findings import EpsilonSeries, ObservedScheme, TraceSummary
from dpaudit.interval import EpsilonInterval, json_number
from dpaudit.newer_schema import is_newer_minor, without_novelties
from dpaudit.provenance import Provenance
from dpaudit.typed_record import require_types
from dpaudit.verdict import Verdict

SCHEMA_VERSION = "1"
_WAY_TO_A_REPORT = (
    "Audits give one: `dpaudit sampler`, `canary-run` and `check`. To audit a training, run `dpaudit train` "
    "with --record-trace and --claim-out, then `dpaudit sampler --claim` on that claim."
)
Kind = Literal["sampler", "canary", "epsilon", "mechanism", "gate"]


class Status(Enum):
    """How far a field of the claim was looked into."""

    CHECKED = "checked"
    """Compared with what was observed or recomputed."""
    DECLARED = "declared"
    """Stated, and taken on trust."""
    ASSUMED = "assumed"
    """Not stated; the audit filled in a default."""
    MISSING = "missing"
    """Not stated, and needed by whoever relies on the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedField:
    """One field of the claim as it appears in the report."""

    name: str
    label: str
    value: str
    status: Status
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """All that one audit found."""

    kind: Kind
    title: str
    target: str
    """What was audited, as the user named it."""
    claim: PrivacyClaim
    evidence: Evidence
    assumed: bool
    """Whether the epsilons rest on numbers that nobody claimed; they then do not bear on the verdict."""
    verdict: Verdict
    fields: tuple[CheckedField, ...]
    advice: tuple[str, ...]
    """How to put right what was found, one sentence or two each."""
    summary: TraceSummary | None
    provenance: Provenance
    notes: tuple[str, ...] = ()
    curves: tuple[EpsilonSeries, ...] = ()
    """Epsilon along delta and steps, where the audit could compute it in little time."""

    @property
    def weighed(self) -> tuple[PrivacyClaim, Evidence]:
        """Claim and evidence as the verdict weighs them: without epsilons of numbers that nobody claimed."""
        if not self.assumed:
            return self.claim, self.evidence
        return replace(self.claim, epsilon=None), Evidence(observed=self.evidence.observed)

    def to_json(self) -> dict[str, Any]:
        """Give the report as its JSON object; keys as in the documented schema."""
        evidence = self.evidence
        rows = [("claimed", evidence.claimed), ("observed", evidence.observed_interval)]
        rows += [("open", interval) for interval in evidence.open_intervals]
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "title": self.title,
            "target": self.target,
            "verdict": self.verdict.to_json(),
            "claim": self.claim.to_json(),
            "sampling": None if evidence.observed is None else evidence.observed.to_json(),
            "epsilons": [
                {"role": role, "assumed": self.assumed, **interval.to_json()}
                for role, interval in rows
                if interval is not None
            ],
            "canary": {
                **({"bounds": []} if evidence.canary is None else evidence.canary.to_json()),
                "theoretical": _theoretical(evidence),
            },
            "fields": [
                {
                    "name": field.name,
                    "label": field.label,
                    "value": field.value,
                    "status": field.status.value,
                    "remark": field.remark,
                }
                for field in self.fields
            ],
            "advice": list(self.advice),
            "summary": None if self.summary is None else self.summary.to_json(),
            "curves": [series.to_json() for series in self.curves],
            "notes": list(self.notes),
            "provenance": self.provenance.to_json(),
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> AuditReport:
        """Rebuild a report from `to_json`; what a newer minor version adds is left out.

        Raises:
          DpauditError: the schema is of another version, or a part is missing or malformed.
        """
        version = str(record.get("schema_version"))
        if version.split(".")[0] != SCHEMA_VERSION:
            raise DpauditError(
                f"the report has schema version {version!r}; this dpaudit reads {SCHEMA_VERSION}",
                "Make the report again with this version.",
            )
        try:
            known = without_novelties(record) if is_newer_minor(version, SCHEMA_VERSION) else record
            report = _from_checked_json(known)
            require_types(report)
            return report
        except DpauditError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DpauditError(f"the report is malformed: {type(error).__name__}: {error}") from error


def _from_checked_json(record: dict[str, Any]) -> AuditReport:
    if record["kind"] not in get_args(Kind):
        raise DpauditError(f"this is no audit report, but JSON of kind {record['kind']!r}", _WAY_TO_A_REPORT)
    intervals = [(row["role"], EpsilonInterval.from_json(row)) for row in record["epsilons"]]
    by_role = {role: interval for role, interval in intervals if role != "open"}
    roles = [role for role, _ in intervals]
    if not set(roles) <= {"claimed", "observed", "open"} or len(by_role) + roles.count("open") < len(roles):
        raise ValueError(f"epsilons have the roles {roles}")
    sampling = record["sampling"]
    return AuditReport(
        kind=record["kind"],
        title=record["title"],
        target=record["target"],
        claim=PrivacyClaim.from_table(record["claim"]),
        evidence=Evidence(
            observed=None if sampling is None else ObservedScheme.from_json(sampling),
            claimed=by_role.get("claimed"),
            observed_interval=by_role.get("observed"),
            open_intervals=tuple(interval for role, interval in intervals if role == "open"),
            canary=_canary_from_json(record["canary"]),
        ),
        assumed=any(row["assumed"] for row in record["epsilons"]),
        verdict=Verdict.from_json(record["verdict"]),
        fields=tuple(CheckedField(**{**row, "status": Status(row["status"])}) for row in record["fields"]),
        advice=tuple(record["advice"]),
        summary=None if record["summary"] is None else TraceSummary.from_json(record["summary"]),
        provenance=Provenance.from_json(record["provenance"]),
        notes=tuple(record["notes"]),
        curves=tuple(EpsilonSeries.from_json(one) for one in record.get("curves", ())),
    )


def _theoretical(evidence: Evidence) -> dict[str, Any] | None:
    """Give the epsilon that lower bounds are held against: the accountant's, for the claimed mechanism."""
    claimed = evidence.claimed
    return None if claimed is None else {"epsilon": json_number(claimed.upper), "delta": claimed.delta}


def _canary_from_json(record: dict[str, Any]) -> CanaryEvidence | None:
    """Read the canary audit; a report of another kind holds an empty list of bounds and no more."""
    if not record["bounds"] and "tests" not in record:
        return None
    return CanaryEvidence.from_json(record)


def dump_json(record: dict[str, Any]) -> str:
    """Write JSON with sorted keys and a final newline; NaN and bare infinity are refused."""
    return json.dumps(record, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"


def read_report(path: Path) -> AuditReport:
    """Read a report from its JSON file.

    Raises:
      DpauditError: the file is missing, truncated, or not a report.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DpauditError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DpauditError(f"{path} is not JSON: {error}", "Was the file cut off?") from error
    if not isinstance(record, dict):
        raise DpauditError(f"{path} is not a report: its top level must be an object")
    try:
        return AuditReport.from_json(record)
    except DpauditError as error:
        raise DpauditError(f"{path}: {error.message}", error.hint) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all: under a temporary name, then renamed.

    Raises:
      DpauditError: the file cannot be written; nothing is left behind.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
            temporary = file.name
            file.write(data)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise DpauditError(f"cannot write {path}: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
