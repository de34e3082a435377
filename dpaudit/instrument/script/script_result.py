"""What one run of a program gave: traces, claim, how it ended, and what must be said of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dpaudit.errors import TargetError
from dpaudit.instrument.script.claim_log import ClaimLog, ReadClaim
from dpaudit.instrument.script.late_doubts import late_notes, why_unclear
from dpaudit.instrument.script.launch import Ending, Program
from dpaudit.instrument.script.live_steps import LiveResult
from dpaudit.instrument.script.other_trainings import claim_of_one, notes_on_others, why_incomplete, why_mixed
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.shelf import Shelf
from dpaudit.instrument.script.spool import Spool
from dpaudit.instrument.script.spooled import read_feeds
from dpaudit.instrument.script.step_names import STATED
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
    rank: int = 0
    """Its number there."""
    world: int = 1
    """How many joined it."""
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


def result_of(
    program: Program,
    session: Session,
    claims: ClaimLog,
    ending: Ending,
    *,
    num_records: int | None,
    is_rank: bool,
    spool: Spool | None,
) -> ScriptRun:
    """Read what a session has seen of a program that has ended.

    Raises:
      TraceError: files of a spool cannot be moved.
      TargetError: there was no optimizer step that batches of a known loader went into.
    """
    traces, problems = _read(session, num_records, is_rank, spool)
    if not traces:
        raise _nothing_seen(session, ending, problems)
    notes = [*how_it_ended(session, ending), *notes_on_others(traces), *problems, *_unfollowed(session)]
    notes += late_notes(session, traces[0])
    claim = claim_of_one(claims.read(), traces)
    steps = session.all_steps[traces[0].number]
    if is_rank and problems:  # of steps after a batch that cannot be read, nobody knows what it put into them
        steps = int(traces[0].step_numbers[-1]) + 1
    unjudgeable = (
        session.unjudgeable
        or _unfollowable(session, traces[0])
        or why_unclear(session, traces[0], claim)
        or why_mixed(traces)
    )
    if spool is not None:
        spool.settle(traces[0].place, unjudgeable)
    return ScriptRun(
        program=program,
        ending=ending,
        traces=tuple(traces),
        claim=claim,
        steps=steps,
        notes=tuple(notes),
        in_group=session.in_group,
        rank=session.rank,
        world=session.world,
        data_parallel=session.data_parallel,
        unjudgeable=unjudgeable,
        doubt=_SKIPPED.format(traces[0].skipped)
        if traces[0].skipped
        else session.doubt or why_incomplete(session, traces, claim),
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


def how_it_ended(session: Session, ending: Ending) -> Iterator[str]:
    """Say it in a sentence or two."""
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
        known = {"torch", "tensorflow", "jax"} & sys.modules.keys()
        hint = "" if known else " It imported none of torch, TensorFlow and JAX."
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
