"""A training program under `dpaudit sampler`: alone, or as one of the ranks that torchrun starts."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from dpaudit.audit.program import Live, ScriptFile, audit_program, record_rank
from dpaudit.audit_report import AuditReport
from dpaudit.errors import DpauditError

_WRONG_INPUT, _INTERNAL_ERROR = 2, 70
Deliver = Callable[[AuditReport, str], int]
"""Writes a report, given how the program failed; gives the exit code."""


def audit_as_ranks(
    program: ScriptFile,
    deliver: Deliver,
    *,
    strict: bool,
    save_trace: Path | None,
    own_stdout: bool,
    shared: Path | None,
    rank_timeout: float,
    stream: Path | None,
    live: Live | None,
) -> int:
    """Run and audit a program; of several ranks the first reports, and all give its exit code.

    Raises:
      DpauditError: nothing could be recorded, or a rank is lost.
    """
    from dpaudit.instrument.script import join_ranks

    ranks = join_ranks(os.environ, shared, rank_timeout)
    if ranks is not None and not ranks.is_first:
        if live is None:  # else the first rank refuses, before it runs anything
            record_rank(program, ranks, strict=strict, own_stdout=own_stdout, stream=stream)
        _end(ranks.await_code())

    def audit() -> int:
        told = audit_program(
            program,
            command=sys.argv,
            strict=strict,
            save_trace=save_trace,
            own_stdout=own_stdout,
            ranks=ranks,
            stream=stream,
            live=live,
        )
        return deliver(*told)

    if ranks is None:
        return audit()
    code = _INTERNAL_ERROR
    try:
        code = audit()
    except (DpauditError, click.ClickException):
        code = _WRONG_INPUT
        raise
    finally:
        sys.stdout.flush()  # once the code is out, the launcher may end this rank
        ranks.publish(code)
    _end(code)


def _end(code: int) -> NoReturn:
    """End this rank with a code; what is left of a broken process group would abort the interpreter."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
