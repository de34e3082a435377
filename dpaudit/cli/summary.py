"""The summary of `dpaudit check` in every format; `dpaudit gate` shares what both have."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dpaudit.audit_report import AuditReport, dump_json
from dpaudit.cli.checked import Checked, CheckResult
from dpaudit.cli.options import FORMATS as COMMON_FORMATS
from dpaudit.config import Config
from dpaudit.evidence import Evidence
from dpaudit.gate import applied_waivers, finding_line
from dpaudit.interval import format_lower
from dpaudit.policy import GateFinding
from dpaudit.report.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

FORMATS = (*COMMON_FORMATS, "sarif", "junit")


def render(
    result: CheckResult,
    form: str,
    settings: Config,
    *,
    reports: Path | None = None,
    to_terminal: bool = False,
) -> str:
    """Render in one of `FORMATS`; `reports` is the directory that text points to."""
    if form == "json":
        return dump_json(_as_json(result))
    if form == "markdown":
        return markdown(_headline(result), result.findings, result.held, settings, _markdown_table(result))
    if form in ("sarif", "junit"):
        return machine_readable(form, result.held, result.findings)
    return _text(result, reports, to_terminal)


def machine_readable(form: str, reports: Mapping[str, AuditReport], findings: Sequence[GateFinding]) -> str:
    """Give SARIF or JUnit XML of reports and what the gate finds."""
    if form == "sarif":
        from dpaudit.report.sarif import to_sarif

        return json.dumps(to_sarif(reports, findings), indent=2) + "\n"
    from dpaudit.report.junit import to_junit

    return to_junit(reports, findings)


def markdown(
    headline: str,
    findings: Sequence[GateFinding],
    reports: Mapping[str, AuditReport],
    settings: Config,
    table: str = "",
) -> str:
    """Give a page for a step summary: headline, table, findings, then each report with its waivers."""
    from dpaudit.report.markdown import inert, to_markdown

    lines = "".join(f"- {inert(finding_line(finding))}\n" for finding in findings)
    pages = (
        to_markdown(report, applied_waivers(name, report, settings, today=date.today()))
        for name, report in reports.items()
    )
    parts = [f"# dpaudit: {headline}\n", table, lines, *pages]
    return "\n".join(part for part in parts if part)


def _headline(result: CheckResult) -> str:
    return {0: "passed", 1: "failed", 3: "inconclusive"}.get(result.exit_code, "not all audits could be made")


def _as_json(result: CheckResult) -> dict[str, object]:
    return {
        "schema_version": "1",
        "kind": "check",
        "exit_code": result.exit_code,
        "audits": [
            {
                "name": one.name,
                "file": str(one.path),
                "outcome": None if one.report is None else one.report.verdict.outcome.value,
                "expected": one.expected,
                "as_expected": one.as_expected,
                "from_cache": one.kept,
            }
            for one in result.checked
        ],
        "findings": findings_as_json(result.findings),
    }


def findings_as_json(findings: Sequence[GateFinding]) -> list[dict[str, str]]:
    """Give findings ready for JSON."""
    return [
        {"level": one.level, "rule": one.rule, "audit": one.audit, "sentence": one.sentence}
        for one in findings
    ]


def _cells(one: Checked) -> tuple[str, str, str, str]:
    if one.report is None:
        return one.name, "FAILED", one.expected or "", "not audited: see below"
    expected = (one.expected or "") + ("" if one.as_expected else " (!)")
    return one.name, one.report.verdict.outcome.value, expected, _seen(one.report.evidence)


def _seen(evidence: Evidence) -> str:
    if evidence.observed is not None:
        return evidence.observed.description
    strongest = max((bound.lower for bound in evidence.lower_bounds), default=None)
    return "" if strongest is None else f"canaries show epsilon at least {format_lower(strongest)}"


_COLUMNS = ("Audit", "Verdict", "Expected", "What was seen")


def _markdown_table(result: CheckResult) -> str:
    from dpaudit.report.markdown import inert

    rows = ["| " + " | ".join(map(inert, _cells(one))) + " |" for one in result.checked]
    return "\n".join(["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS), *rows, ""])


def _text(result: CheckResult, reports: Path | None, to_terminal: bool) -> str:
    from rich.console import Console
    from rich.text import Text

    terminal = to_terminal and sys.stdout.isatty()
    width = min(shutil.get_terminal_size().columns, 120) if terminal else 80
    color = terminal and not os.environ.get("NO_COLOR")
    out = io.StringIO()
    colors: Literal["standard"] | None = "standard" if color else None
    console = Console(file=out, width=width, force_terminal=color, color_system=colors, highlight=False)
    _print_table(console, result)
    for one, why in result.failures:
        console.print(Text(printable(f"\n{one.path}: {why.message}"), style="bold red"))
        for extra in (why.details.rstrip(), why.hint):
            if extra:
                console.print(Text(printable(extra)), soft_wrap=True)
    shown = [finding for finding in result.findings if finding.rule not in ("DPA407", "DPA408")]
    if shown:
        console.print()
    for finding in shown:
        console.print(Text(printable(finding_line(finding))))
    for line in _closing(result, reports):
        console.print(Text(printable(line)), soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip() + "\n"


def _print_table(console: Console, result: CheckResult) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column(_COLUMNS[0], overflow="fold", max_width=28)
    for column in _COLUMNS[1:3]:
        table.add_column(column, no_wrap=True)
    table.add_column(_COLUMNS[3], ratio=1)
    for one in result.checked:
        name, verdict, expected, runs = (printable(cell) for cell in _cells(one))
        style = "" if one.as_expected else "bold red"
        table.add_row(Text(name), Text(verdict, style=style), Text(expected, style=style), Text(runs))
    console.print(table)


def _closing(result: CheckResult, reports: Path | None) -> list[str]:
    lines = [""]
    expecting = [one for one in result.checked if one.expected is not None]
    if expecting:
        met = sum(one.as_expected for one in expecting)
        lines.append(f"{met} of {len(expecting)} audits reached the expected verdict.")
    kept = sum(one.kept for one in result.checked)
    if kept:
        lines.append(f"{kept} unchanged since an earlier run (--no-cache audits anew).")
    if reports is not None:
        lines.append(f"Reports are in {reports}.")
    lines.append(f"Check: {_headline(result)}.")
    return lines
