"""Every figure of a report, by the section that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass

from dpaudit.audit_report import AuditReport
from dpaudit.report.canary_figures import canary_figures, mechanism_figures
from dpaudit.report.epsilon_figures import epsilon_figures
from dpaudit.report.figure import Figure
from dpaudit.report.rows import View
from dpaudit.report.sampling_figures import sampling_figures


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of each section, in order; empty where there is nothing to draw."""

    sampling: tuple[Figure, ...]
    epsilons: tuple[Figure, ...]
    canary: tuple[Figure, ...]
    mechanism: tuple[Figure, ...]


def draw(report: AuditReport, view: View) -> Figures:
    """Draw all figures."""
    return Figures(
        sampling=sampling_figures(report),
        epsilons=epsilon_figures(report, view),
        canary=canary_figures(report, view),
        mechanism=mechanism_figures(report.evidence.canary),
    )
