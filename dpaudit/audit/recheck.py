"""Weigh the evidence of a stored report again: its verdict must be the one that follows."""

from __future__ import annotations

from pathlib import Path

from dpaudit._version import __version__
from dpaudit.audit_report import AuditReport, read_report
from dpaudit.errors import DpauditError
from dpaudit.verdict import Outcome, Verdict, decide


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
        due = decide(*report.weighed).outcome
    except ValueError as error:
        raise DpauditError(f"{path}: the evidence contradicts itself: {error}", _HINT) from error
    if due is not report.verdict.outcome and not _may_differ(report.verdict, due):
        raise DpauditError(
            f"{path}: the verdict is {report.verdict.outcome.value!r}, but what follows from the evidence is "
            f"{due.value!r}",
            _HINT,
        )
    return report


def _may_differ(verdict: Verdict, due: Outcome) -> bool:
    """Tell whether a verdict may rest on more than the evidence that a report holds.

    An audit may find no claim to judge (DPA400), and an earlier attempt, or a test made while the
    training ran, may have gone against a claim that the evidence of this report does not refute.
    """
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return verdict.reasons[:1] != () and verdict.reasons[0].rule == "DPA400"
    return verdict.outcome is Outcome.UNSUPPORTED and due in (Outcome.CONSISTENT, Outcome.INCONCLUSIVE)


_HINT = "Was the file edited? Make the report again."
