"""The SARIF 2.1.0 view: one result for each ground of a bad verdict, at the audited file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from dpaudit._version import __version__
from dpaudit.audit.rules import RULES
from dpaudit.audit_report import AuditReport
from dpaudit.policy import GateFinding
from dpaudit.report.printable import printable
from dpaudit.report.source_place import source_place
from dpaudit.verdict import Outcome

_LEVELS = {
    Outcome.CONSISTENT: "none",
    Outcome.INCONCLUSIVE: "warning",
    Outcome.UNSUPPORTED: "error",
    Outcome.REFUTED: "error",
}
_FINDING_LEVELS = {"error": "error", "inconclusive": "warning", "warn": "warning"}


def to_sarif(
    reports: Mapping[str, AuditReport], findings: Sequence[GateFinding] | None = None
) -> dict[str, Any]:
    """Give a SARIF log of reports by name, and of what the gate finds in them.

    A consistent audit gives no result. Fingerprints depend on audit name, target and rule alone, so that
    a finding keeps its identity from run to run. With findings, their levels count: what is waived is
    marked as suppressed, with the reason, and what no finding names is a note.
    """
    by_audit = {name: _results(name, report) for name, report in reports.items()}
    results = [result for own in by_audit.values() for result in own]
    if findings is not None:
        for result in results:
            result["level"] = "note"
    for finding in findings or ():
        known = [one for one in by_audit.get(finding.audit, ()) if one["ruleId"] == finding.rule]
        if not known:
            known = [_policy_result(finding, reports.get(finding.audit))]
            results += known
        for result in known:
            result["level"] = _FINDING_LEVELS.get(finding.level, "note")
            if finding.level == "waived":
                justification = printable(finding.sentence)
                result["suppressions"] = [{"kind": "external", "justification": justification}]
    used = sorted({result["ruleId"] for result in results})
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "dpaudit",
                        "version": __version__,
                        "rules": [_rule(rule_id) for rule_id in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }


def _results(name: str, report: AuditReport) -> list[dict[str, Any]]:
    level = _LEVELS[report.verdict.outcome]
    if level == "none":
        return []
    return [
        {
            "ruleId": reason.rule,
            "level": level,
            "message": {"text": printable(f"{report.title or name}: {reason.sentence}")},
            "locations": [_location(report.target)],
            "partialFingerprints": {"dpaudit/v1": _fingerprint(name, report.target, reason.rule)},
        }
        for reason in report.verdict.reasons
    ]


def _policy_result(finding: GateFinding, report: AuditReport | None) -> dict[str, Any]:
    where = finding.file or (report.target if report else "")
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": "note",
        "message": {"text": printable(finding.sentence)},
        "partialFingerprints": {"dpaudit/v1": _fingerprint(finding.audit, where, finding.rule)},
    }
    return result | {"locations": [_location(where)]} if where else result


def _rule(rule_id: str) -> dict[str, Any]:
    rule = RULES.get(rule_id)
    if rule is None:
        return {"id": rule_id}
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.null_hypothesis + "."},
        "help": {"text": rule.fix},
    }


def _location(target: str) -> dict[str, Any]:
    """Point at the audited file and line; at the target's name where it is no file."""
    place = source_place(target)
    if place is None:
        return {"logicalLocations": [{"fullyQualifiedName": printable(target)}]}
    file, line = place
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": quote(printable(file))},
            "region": {"startLine": line},
        }
    }


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
