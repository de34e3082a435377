"""`dpaudit sampler --follow`: tell how the test of a growing trace goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from dpaudit.audit.program import Live
from dpaudit.audit_report import AuditReport
from dpaudit.claim_file import ClaimFile

if TYPE_CHECKING:
    from dpaudit.sampling import MonitorState

_SECONDS = 10.0
"""Between two lines where nobody watches: logs stay short."""


def follow_trace(file: ClaimFile, *, quiet: bool, patience: float | None) -> AuditReport:
    """Follow the trace directory that is the target, and audit it when it ends or is refuted."""
    from dpaudit.audit.following import audit_growing

    with live_line(quiet) as tell:
        return audit_growing(file, command=sys.argv, tell=tell, patience=patience)


@contextmanager
def live_line(quiet: bool) -> Iterator[Callable[[MonitorState], None]]:
    """Give what shows a state on standard error: one line that changes on a terminal, else plain lines."""
    if quiet:
        yield lambda state: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("Waiting for the first chunk") as status:
            yield lambda state: status.update(describe(state))
    else:
        yield _PlainLines()


def live_program(quiet: bool, stop: bool) -> Live:
    """Tell how the test of a running program goes: in plain lines, for the terminal is the program's own."""
    return Live(
        tell=(lambda state: None) if quiet else _PlainLines(),
        say=lambda sentence: click.echo(f"dpaudit: {sentence}", err=True),
        stop=stop,
    )


class _PlainLines:
    """The first state, the one that refutes, and others now and then."""

    def __init__(self) -> None:
        self._told = -_SECONDS

    def __call__(self, state: MonitorState) -> None:
        if state.refuted or time.monotonic() - self._told >= _SECONDS:
            self._told = time.monotonic()
            click.echo(describe(state), err=True)


def describe(state: MonitorState) -> str:
    """Put a state in one line."""
    verdict = "refuted" if state.refuted else "not refuted"
    telling = f"; most telling: {state.leading}, {state.rule}" if state.p_value < 1 else ""
    return f"{state.steps:,} steps: {verdict} (p-value {state.p_value:.3g}){telling}"
