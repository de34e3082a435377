"""Record a program: run it, watch what reaches its optimizer, read its claim."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument.script import mark
from dpaudit.instrument.script.child_run import Errand
from dpaudit.instrument.script.children import Children
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.ecosystems import watching
from dpaudit.instrument.script.feed_log import FeedLog
from dpaudit.instrument.script.launch import Program, run_program
from dpaudit.instrument.script.live_steps import LiveSteps
from dpaudit.instrument.script.live_test import Examiner
from dpaudit.instrument.script.output import stdout_to_stderr
from dpaudit.instrument.script.own_ranks import run_of_all
from dpaudit.instrument.script.script_result import ScriptRun, how_it_ended, result_of
from dpaudit.instrument.script.session import Session, Stop
from dpaudit.instrument.script.spool import Spool


def record_script(
    program: Program,
    *,
    steps: int | None = None,
    strict: bool = False,
    num_records: int | None = None,
    own_stdout: bool = True,
    is_rank: bool = False,
    stream: Path | None = None,
    follow: Callable[[ClaimLog], Examiner] | None = None,
) -> ScriptRun:
    """Run a program as it is, and record which records go into each optimizer step.

    The program sees the same data, order and randomness as without. Validation leaves no trace: only
    batches that a backward follows count. A logical step is where a torch optimizer really steps, so
    that virtual steps of Opacus and accumulation count once. Where a program starts processes that
    train together, each records, and their steps are joined.

    Args:
      program: file or module, with its arguments.
      steps: after which it is stopped, by an exception that `except Exception` lets pass; None: never.
      strict: whether a failure of the recording ends the program.
      num_records: N; None takes it from the data set.
      own_stdout: whether what the program prints goes where it would go; else it goes to standard error.
      is_rank: whether it is one of several ranks, whose traces will be joined.
      stream: a new directory to which the recording goes as it grows, in place of memory; at the end it
        is the directory of the first trace. A kill loses at most the last chunk.
      follow: makes what tests each step as it comes, given what the program claims; None: nothing does.

    Raises:
      TraceError: the directory cannot be made or written.
      TargetError: no such program, or no optimizer step that batches of a known loader went into.
      DpauditError: strict, and the recording failed; or ranks that the program started are lost, or did
        not train together.
    """
    spool = None if stream is None else Spool(stream)
    new_log = FeedLog if spool is None else spool.new_log
    session = [Session(steps=steps, strict=strict, new_log=lambda: new_log(follow is not None))]
    errand = Errand(program, steps, strict, num_records, None if spool is None else spool.path)
    try:  # the session is handed over: what it holds of the program must be gone at the end
        with _same_directory():
            return _recorded(errand, session.pop(), own_stdout, is_rank, spool, follow)
    finally:
        gc.collect()  # what only the program held: worker processes, memory of the device


@contextlib.contextmanager
def _same_directory() -> Iterator[None]:
    """Come back from where the program has gone: paths of the report are those of its start."""
    here = Path.cwd()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.chdir(here)


def _recorded(
    errand: Errand,
    session: Session,
    own_stdout: bool,
    is_rank: bool,
    spool: Spool | None,
    follow: Callable[[ClaimLog], Examiner] | None,
) -> ScriptRun:
    claims = ClaimLog(lambda: session.most_steps)
    if follow is not None:
        session.live = LiveSteps(follow(claims), errand.num_records)
    output = contextlib.nullcontext() if own_stdout else stdout_to_stderr()
    with Children(errand, session, claims) as children:
        with output, watching(session, claims), mark.listening(session):
            with contextlib.nullcontext() if is_rank else children.watched():
                ending = run_program(errand.program)[0]
            if not session.stopped:
                with contextlib.suppress(Stop):
                    session.guarded(session.settle)
            children.await_end()
        if session.strict and session.failure:
            raise DpauditError(f"the recording failed: {session.failure}", "Please report it.")
        run: ScriptRun | TargetError
        try:
            run = result_of(
                errand.program,
                session,
                claims,
                ending,
                num_records=errand.num_records,
                is_rank=is_rank or session.world > 1,
                spool=spool,
            )
        except TargetError as error:
            run = error
        nothing = isinstance(run, TargetError)
        if not is_rank:
            ended = list(how_it_ended(session, ending)) if ending.is_failure else []
            run = run_of_all(run, children.all(), claims.read(), ended, errand.num_records)
    if isinstance(run, TargetError):
        raise run
    if spool is not None and nothing:
        spool.withdraw()
    return run
