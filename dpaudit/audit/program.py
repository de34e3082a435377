"""The audit of a whole program, from the command line or from a claim file of kind "script".

kind = "script"
title = "Digits, as they are trained"
target = "train.py"                # relative to this file
expected = "refuted"               # optional: the verdict that `dpaudit check` must reach

[script]                           # optional
arguments = ["--epochs", "3"]

[claim]                            # optional: what is stated here wins over what the program claims
epsilon = 3.0

[audit]                            # optional
steps = 400
significance = 1e-3
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpaudit.audit_report import AuditReport
from dpaudit.claim_file import ClaimFile, claim_file_of, load_toml
from dpaudit.errors import ClaimError, DpauditError, TraceError, UserCodeError
from dpaudit.toml_table import refuse_unknown, subtable

if TYPE_CHECKING:
    from dpaudit.instrument.script import ClaimLog, Examiner, Exchange, ScriptRun
    from dpaudit.sampling import MonitorState


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptFile:
    """A program and the claim file that speaks of it."""

    file: ClaimFile
    """Its target is the program."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """How the test of each step is told of while the program runs."""

    tell: Callable[[MonitorState], None]
    """Called with the state after each step."""
    say: Callable[[str], None]
    """Called with a sentence that must be read."""
    stop: bool = False
    """Whether a refutation ends the program."""


def read_script_file(path: Path) -> ScriptFile:
    """Read a claim file of kind "script".

    Raises:
      ClaimError: the file is missing or not TOML, a key is unknown, or a value is wrong.
    """
    content = load_toml(path)
    rest = {key: value for key, value in content.items() if key not in ("kind", "script")}
    try:
        arguments = _arguments(subtable(content, "script"))
    except DpauditError as error:
        raise ClaimError(f"{path}: {error.message}", error.hint) from error
    file = claim_file_of(path, rest)
    if file.target is None:
        raise ClaimError(f"{path} names no target", 'Add target = "train.py".')
    return ScriptFile(file=file, arguments=arguments)


def _arguments(table: Mapping[str, object]) -> tuple[str, ...]:
    refuse_unknown(table, ("arguments",), "[script]")
    arguments = table.get("arguments", [])
    if not isinstance(arguments, list) or not all(isinstance(one, str) for one in arguments):
        raise ClaimError(f"arguments = {arguments!r} must be a list of strings", 'As in ["--epochs", "3"].')
    return tuple(arguments)


def audit_program(
    script: ScriptFile,
    *,
    command: Sequence[str],
    strict: bool = False,
    save_trace: Path | None = None,
    own_stdout: bool = False,
    ranks: Exchange | None = None,
    stream: Path | None = None,
    live: Live | None = None,
) -> tuple[AuditReport, str]:
    """Run a training program, record what reaches its optimizer, and audit that against its claim.

    Args:
      script: the program; what its claim file states wins over what the program says.
      command: for the report.
      strict: whether a failure of the recording ends the program.
      save_trace: where to keep the trace.
      own_stdout: whether standard output is left to the program; else it goes to standard error, so that
        it cannot mix with the report.
      ranks: where this first rank of several meets the others.
      stream: a new directory to which the trace goes as it grows, in place of memory; of several ranks
        each has one of its own inside.
      live: how to test each step as it comes, for half of the significance; None: only the whole run is
        tested. Not for ranks, whose steps are only known once they are put together.

    Returns:
      The report, and how the program failed; "" if it did not.

    Raises:
      ClaimError: the file names no target.
      DpauditError: nothing could be recorded.
    """
    from dpaudit.instrument.script import record_all

    file = script.file
    level = file.settings.significance
    follow = None
    if live is not None:
        from dpaudit.audit.script_live import ProgramTest, require_poisson, with_live_test

        if ranks is not None:
            raise ClaimError(
                "ranks cannot be followed while they run: a step is what all of them put into it",
                "Leave --follow out: they are put together and audited at the end.",
            )
        require_poisson(file.claim)
        level /= 2

        def follow(claims: ClaimLog) -> ProgramTest:
            return ProgramTest(
                claims, file.claim, significance=level, stop=live.stop, tell=live.tell, say=live.say
            )

    def record() -> ScriptRun:
        return _recorded(
            script, strict=strict, own_stdout=own_stdout, ranks=ranks, stream=stream, follow=follow
        )

    run = record() if ranks is None else record_all(ranks, record, file.claim.num_records)
    if save_trace is not None:
        replace(run.main.recording.trace, withheld=run.unjudgeable).save(save_trace)

    from dpaudit.audit.script import audit_script
    from dpaudit.provenance import collect

    inputs = [] if script.is_module else [Path(run.program.name)]
    report = audit_script(
        run,
        file.claim,
        provenance=collect(command=command, inputs=[*inputs, *([file.path] if file.path else [])]),
        title=file.title,
        significance=level,
    )
    if live is not None:
        report = with_live_test(report, run, level)
    failed = f"the program {run.ending.how.value}: {run.ending.message}" if run.ending.is_failure else ""
    return report, failed


def record_rank(
    script: ScriptFile, ranks: Exchange, *, strict: bool, own_stdout: bool, stream: Path | None = None
) -> None:
    """Record a program on a rank that is not the first, and leave what it saw."""
    from dpaudit.instrument.script import leave_part

    leave_part(
        ranks, lambda: _recorded(script, strict=strict, own_stdout=own_stdout, ranks=ranks, stream=stream)
    )


def _recorded(
    script: ScriptFile,
    *,
    strict: bool,
    own_stdout: bool,
    ranks: Exchange | None,
    stream: Path | None,
    follow: Callable[[ClaimLog], Examiner] | None = None,
) -> ScriptRun:
    from dpaudit.instrument.script import Program, record_script

    file = script.file
    if file.target is None:
        raise ClaimError(f"{file.path or 'the claim'} names no target", 'Add target = "train.py".')
    return record_script(
        Program(file.target, script.arguments, script.is_module),
        steps=file.settings.steps,
        strict=strict,
        num_records=file.claim.num_records,
        own_stdout=own_stdout,
        is_rank=ranks is not None,
        stream=_place(stream, ranks),
        follow=follow,
    )


def _place(stream: Path | None, ranks: Exchange | None) -> Path | None:
    """Give the directory of this rank."""
    if stream is None or ranks is None:
        return stream
    try:
        stream.mkdir(exist_ok=True)
    except OSError as error:
        raise TraceError(f"cannot write the trace {stream}: {error.strerror or error}") from error
    return stream / f"rank-{ranks.rank}"


def audit_script_file(script: ScriptFile, *, command: Sequence[str]) -> AuditReport:
    """Audit the program of a claim file; a program that fails is an error.

    Raises:
      UserCodeError: the program ended in failure.
      DpauditError: nothing could be recorded.
    """
    report, failed = audit_program(script, command=command)
    if failed:
        raise UserCodeError(failed, "", "Run it by itself, or audit what it did until then with --script.")
    return report
