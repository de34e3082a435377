"""A report whose evidence cannot carry its verdict."""

from __future__ import annotations

from dataclasses import replace

from dpaudit.audit_report import AuditReport
from dpaudit.verdict import Outcome, Reason, Verdict


def withheld(report: AuditReport, why: str, advice: str = "") -> AuditReport:
    """Give the report without a verdict, saying why and what would give one."""
    observed = report.evidence.observed
    seen = "" if observed is None else f" What runs is {observed.description}."
    verdict = Verdict(outcome=Outcome.INCONCLUSIVE, reasons=(Reason("DPA400", f"{why}{seen}"),))
    return replace(report, verdict=verdict, advice=(advice,) if advice else (), notes=(why, *report.notes))
