"""The PDF view: typst sets it, with its own fonts, so that equal reports give equal bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from dpaudit.report.figures import draw
from dpaudit.report.printable import printable
from dpaudit.report.view import build_view


def to_pdf(report: AuditReport, waivers: Sequence[AppliedWaiver] = ()) -> bytes:
    """Render a report as PDF; every string goes to typst as data, never as markup."""
    import typst

    view = build_view(report, waivers)
    data = {"view": asdict(view), "figures": asdict(draw(report, view))}
    template = files("dpaudit.report").joinpath("templates/report.typ").read_bytes()
    pdf: bytes = typst.compile(
        template,
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"data": json.dumps(_printable(data))},
    )
    return pdf


def _printable(value: Any) -> Any:
    """Clean every string; infinite numbers, which only figures need, go too."""
    match value:
        case str():
            return printable(value)
        case float():
            return None
        case dict():
            return {name: _printable(one) for name, one in value.items()}
        case list() | tuple():
            return [_printable(one) for one in value]
    return value
