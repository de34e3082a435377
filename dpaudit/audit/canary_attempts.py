"""Attempts at one gate: what an earlier one refuted stays refuted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dpaudit.audit_report import AuditReport
from dpaudit.canary import Attempt, settle_attempt
from dpaudit.verdict import Outcome, Reason, Verdict

_AGAINST = (Outcome.REFUTED, Outcome.UNSUPPORTED)


def settled(report: AuditReport, path: Path, attempt: Attempt) -> AuditReport:
    """Write the outcome of an attempt into its spending file, and say in the report which one it was.

    The attempt was decided at its own level, so an outcome against the claim counts as a p-value of that
    level, any other as one.

    Raises:
      SpendingFileError: the file is gone, malformed, or cannot be written.
    """
    against = report.verdict.outcome in _AGAINST
    budget = settle_attempt(path, attempt, attempt.level if against else 1.0)
    note = f"Attempt {attempt.number} at this gate, decided at a level of {attempt.level:.3g}."
    report = replace(report, notes=(*report.notes, note))
    if against or not budget.refuted:
        return report
    reason = Reason(
        "DPA300", f"An earlier attempt refuted this claim ({path.name}); running it again does not undo that."
    )
    verdict = Verdict(outcome=Outcome.UNSUPPORTED, reasons=(reason, *report.verdict.reasons))
    return replace(report, verdict=verdict)
