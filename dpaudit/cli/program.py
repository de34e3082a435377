"""The part of `dpaudit sampler` that runs a whole program: --script and -m."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from dpaudit.audit_report import AuditReport
from dpaudit.claim_file import ClaimFile


def audit_program(
    name: str,
    arguments: tuple[str, ...],
    *,
    is_module: bool,
    file: ClaimFile,
    command: list[str],
    strict: bool,
    save_trace: Path | None,
    own_stdout: bool,
) -> tuple[AuditReport, bool]:
    """Run a training program, record what reaches its optimizer, and audit that against its claim.

    Args:
      name: script or module.
      arguments: of the program.
      is_module: whether it is run as after `python -m`.
      file: claim and settings; what it states wins over what the program says.
      command: for the report.
      strict: whether a failure of the recording ends the program.
      save_trace: where to keep the trace.
      own_stdout: whether standard output is left to the program; else it goes to standard error, so that
        it cannot mix with the report.

    Returns:
      The report, and whether the program itself failed.
    """
    from dpaudit.instrument.script import Program, record_script

    program = Program(name, arguments, is_module)
    with contextlib.nullcontext() if own_stdout else _stdout_to_stderr():
        run = record_script(
            program, steps=file.settings.steps, strict=strict, num_records=file.claim.num_records
        )
    if save_trace is not None:
        run.main.recording.trace.save(save_trace)

    from dpaudit.audit.script import audit_script
    from dpaudit.provenance import collect

    inputs = [path for path in (None if is_module else Path(name), file.path) if path is not None]
    report = audit_script(
        run,
        file.claim,
        provenance=collect(command=command, inputs=inputs),
        title=file.title,
        significance=file.settings.significance,
    )
    return report, run.ending.is_failure


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what the program prints to standard error, that of its child processes too."""
    try:
        number = sys.stdout.fileno()
    except (OSError, io.UnsupportedOperation):  # not a file: a test, or a notebook
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    saved = os.dup(number)
    os.dup2(sys.stderr.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, number)
        os.close(saved)
