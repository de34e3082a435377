"""From feeds to recordings: one trace for each data set and optimizer that came together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.records import RecordNumbers, number_records
from dpaudit.instrument.result import Recording, finish
from dpaudit.instrument.script.attribution import Attribution, Pattern, attribute
from dpaudit.instrument.script.content_sample import content_sample
from dpaudit.instrument.script.feed import Feed, IntArray, StepLog

_NUMBERED = (Method.CARRIED, Method.NEXT_INDEX)
_FEW_STEPS = 4
"""Steps below which one batch may well have been used by most of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FedOptimizer:
    """An optimizer, and the trace of the batches of one data set that went into its steps."""

    number: int
    """Of the optimizer, in the order of first steps."""
    optimizer: str
    recording: Recording
    batches: int
    """Different batches that went into its steps."""
    step_numbers: IntArray
    """Of the optimizer's steps, that of each row of the trace, from 0; shape (rows,)."""
    sample: tuple[int, ...] | None = None
    """By which ranks tell whether they read one data set; None: not taken, or it cannot be."""


@dataclass(frozen=True, slots=True)
class _FeedSource:
    """What `finish` wants to know of a source."""

    method: Method
    facts: LoaderFacts
    notes: tuple[str, ...]
    rows: RecordNumbers | None


def traces_of(feed: Feed, num_records: int | None, is_rank: bool = False) -> Iterator[FedOptimizer]:
    """Give the trace of each optimizer that batches of this feed went into.

    Args:
      feed: of one data set.
      num_records: N as the user gives it.
      is_rank: whether traces of other ranks will be joined with it.

    Raises:
      DpauditError: record numbers out of range, or that contradict N.
    """
    if not len(feed.uses) or not feed.delivered:
        return
    told = attribute(feed.uses, feed.pass_of, feed.log.sizes)
    indices = feed.log.indices()
    offsets = np.concatenate(([0], np.cumsum(np.asarray(feed.log.sizes, np.int64))))
    sample = content_sample(feed.dataset) if is_rank and feed.method in _NUMBERED else None
    for number, log in feed.steps.items():
        recorder, batches, fed, used = _steps(feed, told, log, indices, offsets)
        if recorder.steps == 0 or recorder.indices().size == 0:
            continue
        _refuse_kept_batches(feed, told, recorder.steps)
        unfed = len(log.uses) - int(fed[0]) - len(fed)
        notes = tuple(_notes(feed, told, unfed))
        recorder.uncertain = feed.uncertain
        rows = _rows(feed, used)
        source = _FeedSource(feed.method, feed.facts, notes, rows)
        # `finish` reads method, facts, notes and rows of its source, and nothing else.
        recording = finish(recorder, source, stated=num_records, labels=None, seed=None)  # type: ignore[arg-type]
        yield FedOptimizer(
            number=number,
            optimizer=log.optimizer,
            recording=recording,
            batches=batches,
            step_numbers=fed + log.number,
            sample=sample,
        )


def _refuse_kept_batches(feed: Feed, told: Attribution, steps: int) -> None:
    """Refuse a batch that half of the steps come after: a program that cuts its own batches from it.

    Raises:
      DpauditError: there is such a batch.
    """
    if steps < _FEW_STEPS:
        return
    most = int(np.bincount(told.first).max(initial=0))
    if 2 * most > len(told.first):
        raise DpauditError(
            f"{most} of {len(told.first)} backward calls came after one and the same batch, without another "
            "one being handed over: which of its records each used cannot be told",
            "Say it: dpaudit.step(records) at the end of each step.",
        )


def _steps(
    feed: Feed, told: Attribution, log: StepLog, indices: npt.NDArray[Any], offsets: IntArray
) -> tuple[Recorder, int, IntArray, set[int]]:
    """Put together the batches of each step that has any; give their count, the steps, the passes."""
    recorder = Recorder()
    recorder.start_run()
    limits = np.concatenate(([0], np.asarray(log.uses, np.int64)))
    seen_pass = -1
    batches: set[int] = set()
    passes: set[int] = set()
    reached = np.concatenate(([0], np.asarray(log.reached, np.int64)))
    # A program may leave out the backward of an empty batch, and still add noise and step.
    empty = (np.diff(reached) > 0) & (np.diff(offsets[reached]) == 0) & (told.pattern is Pattern.DIRECT)
    fed = np.flatnonzero((np.diff(limits) > 0) | empty)
    for begin, end, latest in zip(
        limits[fed].tolist(), limits[fed + 1].tolist(), reached[fed + 1].tolist(), strict=True
    ):
        used = (range(told.first[use], told.last[use]) for use in range(begin, end))
        numbers = list(dict.fromkeys(itertools.chain.from_iterable(used))) or [latest - 1]
        source = feed.pass_of[numbers[-1]]
        if source != seen_pass:
            recorder.start_epoch()
            seen_pass = source
        passes.update(feed.pass_of[number] for number in numbers)
        batches.update(numbers)
        parts = [indices[offsets[number] : offsets[number + 1]] for number in numbers]
        recorder.add(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return recorder, len(batches), fed, passes


def _rows(feed: Feed, passes: set[int]) -> RecordNumbers | None:
    """Number the records that the passes in use could reach."""
    if feed.method in (Method.FINGERPRINT, Method.STREAM):
        return None
    subsets = [feed.subsets[number] for number in sorted(passes)]
    first = subsets[0]
    inside = number_records(feed.dataset)
    if first is None or any(one is None or not np.array_equal(first, one) for one in subsets):
        return inside
    distinct = np.unique(first)
    if inside.numbers is not None:
        distinct = np.unique(inside.of(distinct))
    lookup = np.zeros(inside.rows, np.int64)
    every = np.arange(inside.rows) if inside.numbers is None else inside.numbers
    lookup[:] = np.minimum(np.searchsorted(distinct, every), len(distinct) - 1)
    origins = distinct if inside.origins is None else inside.origins[distinct]
    return RecordNumbers(len(distinct), lookup, origins)


def _notes(feed: Feed, told: Attribution, unfed: int) -> Iterator[str]:
    if told.pattern is Pattern.IN_TURN:
        yield "The program fetches batches ahead: they were taken to be used in the order in which they came."
    elif told.pattern is Pattern.JOINED:
        yield "The program takes several batches before each backward: they were taken to be joined."
    elif told.pattern is Pattern.LEFT_OUT:
        yield (
            f"ATTENTION: {told.left_out} batches were handed to the program, and another one was fetched "
            "before any backward: they were taken to be left out."
        )
    if unfed:
        yield f"{unfed} steps of the optimizer came without a new backward over batches of this data set."
    if feed.replaced:
        yield (
            f"The program made the data set object anew {feed.replaced} times: each was taken to hold the "
            "same records in the same order."
        )


def read_traces(
    feeds: list[Feed], num_records: int | None, is_rank: bool = False
) -> tuple[list[FedOptimizer], list[str]]:
    """Give all traces, and why others could not be had."""
    found: list[FedOptimizer] = []
    problems: list[str] = []
    for feed in feeds:
        what = feed.facts.dataset or feed.facts.loader
        if feed.unreadable:
            problems.append(f"Batches of {what} cannot be followed: {feed.unreadable}.")
        try:
            found += traces_of(feed, num_records, is_rank)
        except DpauditError as error:
            problems.append(f"Batches of {what} cannot be followed: {error.message}. {error.hint}".rstrip())
    return found, problems
