"""The terminal view: plain text with little colour, 80 columns when nothing says otherwise."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from dpaudit.report.printable import printable
from dpaudit.report.rows import CanarySection, TestRow, View
from dpaudit.report.view import build_view

_STYLES = {"CONSISTENT": "green", "INCONCLUSIVE": "yellow", "UNSUPPORTED": "red", "REFUTED": "bold red"}


def to_text(
    report: AuditReport,
    waivers: Sequence[AppliedWaiver] = (),
    *,
    width: int = 80,
    color: bool = False,
    verbose: bool = False,
) -> str:
    """Render a report for a terminal.

    Args:
      report: what to show.
      waivers: that met its findings.
      width: columns.
      color: whether to emit ANSI colours.
      verbose: show also what was declared, the environment and the command.
    """
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
    )
    view = build_view(report, waivers)
    _head(console, view)
    _waivers(console, view)
    _tests(console, "Tests", view.tests)
    _epsilons(console, view)
    _canary(console, view.canary)
    _list(console, "What would have been seen", view.visible)
    _list(console, "What the canaries would have shown", view.canary.visible)
    _list(console, "How to fix it", view.advice)
    _list(console, "Notes", view.notes)
    if verbose:
        _fields(console, view)
        _list(console, "Limits of this audit", view.limits)
        _list(console, "Made by", [view.command, *(f"{name}: {value}" for name, value in view.environment)])
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip() + "\n"


def _text(content: str, style: str = "") -> Text:
    return Text(printable(content), style=style)


def _head(console: Console, view: View) -> None:
    console.print(_text(view.title, style="bold"))
    console.print()
    console.print(_text(view.headline, style=_STYLES[view.outcome]))
    for reason in view.reasons[:1]:
        console.print(_text(reason))
    _list(console, "Claim", (view.claim,))
    _list(console, "What was seen", (*view.seen, *view.canary.seen))


def _waivers(console: Console, view: View) -> None:
    lines = [
        f"{row.state}: {row.rule}, until {row.until}, by {row.approved_by}: {row.reason}"
        for row in view.waivers
    ]
    _list(console, "Waivers", lines)


def _tests(console: Console, title: str, rows: Sequence[TestRow]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("Rule", no_wrap=True)
    table.add_column("Test", ratio=1)
    table.add_column("p, adjusted", justify="right", no_wrap=True)
    table.add_column("Result", no_wrap=True)
    for row in rows:
        style = "red" if row.result == "REJECTED" else ""
        table.add_row(row.rule, _text(row.name), row.p_value, _text(row.result, style=style))
    _block(console, title, table)


def _epsilons(console: Console, view: View) -> None:
    if not view.epsilons:
        return
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("", "Sampling"):
        table.add_column(column, no_wrap=True)
    for column in ("Epsilon at least", "at most"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Method", ratio=1)
    for row in view.epsilons:
        table.add_row(row.role, row.scheme, row.lower, row.upper, _text(row.method))
    _block(console, "Epsilon", table)
    console.print(Padding(_text(view.epsilons_caption), (0, 0, 0, 2)))


def _canary(console: Console, canary: CanarySection) -> None:
    _tests(console, "Tests of the mechanism", canary.tests)
    if canary.bounds:
        table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
        table.add_column("Lower bound by", ratio=1)
        for column in ("Decides", "For information"):
            table.add_column(column)
        table.add_column("Assumes")
        for row in canary.bounds:
            method = f"{row.method}, {row.threat_model}, {row.canaries}"
            table.add_row(_text(method), row.deciding, row.reported, row.assumes)
        _block(console, "Lower bounds from canaries", table)
        console.print(Padding(_text(canary.bounds_caption), (0, 0, 0, 2)))
    if canary.mechanism:
        table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
        for column in ("Tensor", "Noise over claimed", "Sensitivity over clip norm"):
            table.add_column(column, ratio=1)
        for tensor in canary.mechanism:
            noise = f"{tensor.noise} {tensor.noise_word}"
            table.add_row(
                *map(_text, (tensor.tensor, noise, f"{tensor.sensitivity} {tensor.sensitivity_word}"))
            )
        _block(console, "Mechanism", table)


def _fields(console: Console, view: View) -> None:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("Field", "Status"):
        table.add_column(column, no_wrap=True)
    table.add_column("Value", ratio=1)
    for row in view.fields:
        remark = f" ({row.remark})" if row.remark else ""
        table.add_row(row.label, row.status, _text(row.value + remark))
    _block(console, "The claim, field by field", table)


def _list(console: Console, title: str, lines: tuple[str, ...] | list[str]) -> None:
    if not lines:
        return
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(ratio=1)
    for line in lines:
        table.add_row("-" if len(lines) > 1 else "", _text(line))
    _block(console, title, table)


def _block(console: Console, title: str, body: Table) -> None:
    console.print()
    console.print(_text(title, style="bold"))
    console.print(Padding(body, (0, 0, 0, 2)))
