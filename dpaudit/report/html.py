"""The HTML view: one self-contained file, no script, nothing fetched, every string escaped."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from dpaudit.report.figures import draw
from dpaudit.report.printable import printable_value
from dpaudit.report.view import build_view


def to_html(report: AuditReport, waivers: Sequence[AppliedWaiver] = ()) -> str:
    """Render a report, and the waivers that met its findings, as a single HTML page."""
    environment = Environment(
        loader=PackageLoader("dpaudit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=printable_value,
    )
    view = build_view(report, waivers)
    return environment.get_template("report.html.j2").render(view=view, figures=draw(report, view))
