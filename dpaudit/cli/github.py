"""What a GitHub workflow shows beside the log: the step's summary page, and annotations on files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from dpaudit.audit_report import AuditReport
from dpaudit.policy import GateFinding
from dpaudit.report.printable import printable

_COMMANDS = {"error": "error", "inconclusive": "warning", "warn": "warning", "waived": "notice"}


def append_step_summary(text: str) -> None:
    """Append Markdown to the page of the step; nothing outside a workflow.

    A page that cannot be written is told on standard error: what was found stands without it.
    """
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if not page:
        return
    try:
        with Path(page).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        click.echo(f"The step's summary page cannot be written: {page}: {error.strerror}", err=True)


def annotate(findings: Sequence[GateFinding], reports: Mapping[str, AuditReport]) -> None:
    """Print findings as workflow commands on standard error; nothing outside a workflow."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    for one in findings:
        file = one.file or (_file(reports[one.audit].target) if one.audit in reports else "")
        where = f"file={_property(file)}," if file else ""
        title = _property(f"{one.rule} {one.audit}".strip())
        click.echo(f"::{_COMMANDS[one.level]} {where}title={title}::{_data(one.sentence)}", err=True)


def _file(target: str) -> str:
    """Give the file of a target `file.py:name`."""
    file, colon, _ = target.partition(".py:")
    return f"{file}.py" if colon else file


def _data(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
