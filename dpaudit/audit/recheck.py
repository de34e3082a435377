"""Weigh the evidence of a stored report again: its verdict must be the one that follows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dpaudit._version import __version__
from dpaudit.audit_report import AuditReport, read_report
from dpaudit.errors import DpauditError
from dpaudit.evidence import Evidence
from dpaudit.verdict import Outcome, decide


def read_sound_report(path: Path) -> AuditReport:
    """Read a report from its JSON file, and make sure that its verdict follows from its evidence.

    Only reports of this version are weighed again; another may decide otherwise. This finds a slip, not
    a forger: whoever wants to can edit the evidence too. Sign reports, or make them anew in CI.

    Raises:
      DpauditError: the file is missing, truncated, malformed or not a report; the verdicts differ, or
        the evidence contradicts itself.
    """
    report = read_report(path)
    if report.provenance.dpaudit != __version__:
        return report
    try:
        due = _weigh(report)
    except ValueError as error:
        raise DpauditError(f"{path}: the evidence contradicts itself: {error}", _HINT) from error
    if due is not report.verdict.outcome:
        raise DpauditError(
            f"{path}: the verdict is {report.verdict.outcome.value!r}, but what follows from the evidence is "
            f"{due.value!r}",
            _HINT,
        )
    return report


def _weigh(report: AuditReport) -> Outcome:
    if not report.assumed:
        return decide(report.claim, report.evidence).outcome
    # Epsilons of numbers that nobody claimed do not bear on the verdict.
    return decide(replace(report.claim, epsilon=None), Evidence(observed=report.evidence.observed)).outcome


_HINT = "Was the file edited? Make the report again."
