"""Record a program: run it, watch what reaches its optimizer, read its claim."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument.script import mark
from dpaudit.instrument.script.claim_log import ClaimLog, ReadClaim
from dpaudit.instrument.script.ecosystems import watching
from dpaudit.instrument.script.feed_log import FeedLog
from dpaudit.instrument.script.late_doubts import late_notes, why_unclear
from dpaudit.instrument.script.launch import Ending, Program, run_program
from dpaudit.instrument.script.live_steps import LiveResult, LiveSteps
from dpaudit.instrument.script.live_test import Examiner
from dpaudit.instrument.script.output import stdout_to_stderr
from dpaudit.instrument.script.session import Session, Stop
from dpaudit.instrument.script.shelf import Shelf
from dpaudit.instrument.script.spool import Spool
from dpaudit.instrument.script.spooled import read_feeds
from dpaudit.instrument.script.step_names import STATED, UPDATE
from dpaudit.instrument.script.traces import FedOptimizer, read_traces

_FOLLOWED = (
    "Followed are batches of torch DataLoaders, of tf.data, Keras and jax_privacy up to the steps of "
    "optimizers of torch and Keras, of optax and of jax_privacy's noise, in the process that was started. "
    "Where a program has no such steps, call dpaudit.step() at the end of each; where it has no such loader, "
    "dpaudit.step(records), or audit its loader by a function batches(seed, steps)."
)


_SKIPPED = (
    "A gradient scaler skipped {} steps because of the gradients of their batches, and who sees the updates "
    "sees that, without noise: no proof covers it. Choose a scale that never overflows, or bfloat16."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptRun:
    """What one run of a program gave."""

    program: Program
    ending: Ending
    traces: tuple[FedOptimizer, ...]
    """The one with most batches first; steps that the program marks itself come before others."""
    claim: ReadClaim
    steps: int
    """Steps of the optimizer of the first trace, with those that no batch went into."""
    notes: tuple[str, ...]
    in_group: bool = False
    """Whether the program joined a process group of torch."""
    data_parallel: bool = False
    """Whether it wrapped a model to average gradients over ranks."""
    unjudgeable: str = ""
    """Why no verdict can be given."""
    doubt: str = ""
    """Why it cannot be called consistent."""
    live: LiveResult | None = None
    """What a test that ran along has seen of the first trace; None: there was none, or nothing to test."""

    @property
    def main(self) -> FedOptimizer:
        """The trace to audit: of the training, not of what runs beside it."""
        return self.traces[0]


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
    that virtual steps of Opacus and accumulation count once.

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
      DpauditError: strict, and the recording failed.
    """
    spool = None if stream is None else Spool(stream)
    new_log = FeedLog if spool is None else spool.new_log
    session = [Session(steps=steps, strict=strict, new_log=lambda: new_log(follow is not None))]
    try:  # the session is handed over: what it holds of the program must be gone at the end
        return _recorded(program, session.pop(), num_records, own_stdout, is_rank, spool, follow)
    finally:
        gc.collect()  # what only the program held: worker processes, memory of the device


def _recorded(
    program: Program,
    session: Session,
    num_records: int | None,
    own_stdout: bool,
    is_rank: bool,
    spool: Spool | None,
    follow: Callable[[ClaimLog], Examiner] | None,
) -> ScriptRun:
    claims = ClaimLog(lambda: session.most_steps)
    if follow is not None:
        session.live = LiveSteps(follow(claims), num_records)
    output = contextlib.nullcontext() if own_stdout else stdout_to_stderr()
    with output, watching(session, claims), mark.listening(session):
        ending = run_program(program)[0]
        if not session.stopped:
            with contextlib.suppress(Stop):
                session.guarded(session.settle)
    if session.strict and session.failure:
        raise DpauditError(f"the recording failed: {session.failure}", "Please report it.")
    traces, problems = _read(session, num_records, is_rank, spool)
    if not traces:
        raise _nothing_seen(session, ending, problems)
    if spool is not None:
        spool.settle(traces[0].place)
    notes = [*_how_it_ended(session, ending), *_others(traces), *problems, *_unfollowed(session)]
    notes += late_notes(session, traces[0])
    return ScriptRun(
        program=program,
        ending=ending,
        traces=tuple(traces),
        claim=claims.read(),
        steps=session.all_steps[traces[0].number],
        notes=tuple(notes),
        in_group=session.in_group,
        data_parallel=session.data_parallel,
        unjudgeable=session.unjudgeable
        or _unfollowable(session, traces[0])
        or why_unclear(session, traces[0]),
        doubt=_SKIPPED.format(traces[0].skipped) if traces[0].skipped else session.doubt,
        live=None
        if session.live is None
        else session.live.result(traces[0].number, traces[0].recording.trace),
    )


def _read(
    session: Session, num_records: int | None, is_rank: bool, spool: Spool | None
) -> tuple[list[FedOptimizer], list[str]]:
    """Put the traces together; those on disk from what is there, as after a kill."""
    if spool is None:
        return read_traces(session.feeds, num_records, is_rank)
    damage = spool.close()
    feeds = read_feeds(spool.path)
    for number, stored in feeds.items():
        stored.dataset = session.feeds[number].dataset
    traces, problems = read_traces(list(feeds.values()), num_records, is_rank, Shelf(spool.path))
    return traces, [*problems, *([f"ATTENTION: {damage}."] if damage else [])]


def _how_it_ended(session: Session, ending: Ending) -> Iterator[str]:
    if session.refuted:
        yield "The program was stopped at the step that refuted its claim."
    elif session.stopped:
        yield "The program was stopped after the wanted number of steps."
    elif ending.is_failure:
        yield f"ATTENTION: the program {ending.how.value} ({ending.message}); what it did before was audited."
    else:
        yield "The program ran to its end."
    if session.failure:
        yield f"ATTENTION: the recording failed on the way ({session.failure}); what came later is not in it."


def _others(traces: list[FedOptimizer]) -> Iterator[str]:
    main = traces[0]
    for other in traces[1:]:
        facts = other.recording.facts
        if other.optimizer == UPDATE != main.optimizer:
            continue  # of parameters, by what the steps of the other released
        if 2 * other.recording.trace.steps >= main.recording.trace.steps and other.batches > 1:
            yield (
                f"Not audited: {other.batches} batches of another loader or for another optimizer "
                f"({facts.dataset or facts.loader}, {other.optimizer})."
            )


def _unfollowable(session: Session, main: FedOptimizer) -> str:
    return "" if main.recording.facts.loader == STATED else session.unfollowable


def _unfollowed(session: Session) -> Iterator[str]:
    for why, batches in session.seen.items():
        yield f"Not followed: {batches} batches; {why}."
    if session.late.uncounted:
        yield "Not followed: steps of JAX on several devices cannot be counted, for each tells of them."


def _nothing_seen(session: Session, ending: Ending, problems: list[str]) -> TargetError:
    came = f"{session.batches} batches of known loaders were handed out"
    if ending.is_failure:
        return TargetError(f"the program {ending.how.value} before any training was seen: {ending.message}")
    if session.failure:
        return TargetError(f"the recording failed: {session.failure}", "Please report it.")
    if session.unfollowable:
        return TargetError(f"no optimizer step could be followed; {came}", session.unfollowable)
    told = " ".join([*problems, *_unfollowed(session)])
    steps = sum(session.all_steps.values())
    if not steps:
        hint = (
            "" if {"torch", "tensorflow"} & {*sys.modules} else " It imported neither torch nor TensorFlow."
        )
        return TargetError(f"no optimizer step was seen; {came}.{hint} {told}".rstrip(), _FOLLOWED)
    kept = [feed for feed in session.feeds if feed.delivered and not len(feed.uses)]
    if kept and not told:
        told = (
            "A loader was read to its end before the training and its batches were kept: which of them a "
            "step used cannot be told."
        )
    return TargetError(
        f"{steps} optimizer steps were seen, but no batch that could be followed went into them; {came}. "
        f"{told}".rstrip(),
        _FOLLOWED,
    )
