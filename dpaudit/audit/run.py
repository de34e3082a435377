"""Run what one claim file asks for; whatever goes wrong becomes a value, for the others' sake."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from dpaudit.audit.inputs import THREAD_VARIABLES, InputWatch
from dpaudit.audit.kinds import plan_audit
from dpaudit.audit.loader import Progress
from dpaudit.audit_report import AuditReport
from dpaudit.errors import DpauditError, UserCodeError

_TELL_EVERY = 0.1
"""Seconds between two messages of progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditDone:
    """A report, and the fingerprints of what it stands on; None where these cannot be told."""

    report: AuditReport
    inputs: Mapping[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFailed:
    """Why there is no report."""

    message: str
    hint: str = ""
    details: str = ""
    """Traceback: of the audited code, or of dpaudit where the fault is internal."""
    internal: bool = False
    """Whether dpaudit is at fault, or the process died; else the user can put it right."""


AuditResult = AuditDone | AuditFailed


def run_audit(claim: Path, progress: Progress | None = None) -> AuditResult:
    """Run the audit of one claim file in this process.

    Only KeyboardInterrupt passes.
    """
    watch = InputWatch()
    try:
        report = plan_audit(claim).run(["dpaudit", "check", str(claim)], progress)
        return AuditDone(report=report, inputs=watch.stop())
    except UserCodeError as error:
        return AuditFailed(message=error.message, hint=error.hint, details=error.user_traceback)
    except DpauditError as error:
        return AuditFailed(message=error.message, hint=error.hint)
    except Exception as error:
        message = f"internal error of dpaudit: {type(error).__name__}: {error}"
        return AuditFailed(message=message, details=traceback.format_exc(), internal=True)


def serve_audit(claim: Path, threads: int, connection: Connection) -> None:
    """Run one audit in a process of its own and send what comes of it.

    Messages are pairs (done, wanted) of progress, then one AuditResult. What the audited code prints
    goes to standard error, for standard output is the caller's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches the parent, which ends this process
    signal.signal(signal.SIGTERM, _interrupt)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    for name in THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))
    last = 0.0

    def tell(done: int, wanted: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _TELL_EVERY or done == wanted:
            last = now
            connection.send((done, wanted))

    try:
        connection.send(run_audit(claim, tell))
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)  # nobody listens any more; worker processes of the audited code end with this one


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
