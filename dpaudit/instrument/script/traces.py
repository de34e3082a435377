"""From feeds to recordings: one trace for each data set and optimizer that came together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.records import RecordNumbers
from dpaudit.instrument.result import Recording, finish
from dpaudit.instrument.script.attribution import Attribution, Pattern, attribute
from dpaudit.instrument.script.content_sample import content_sample
from dpaudit.instrument.script.feed import Feed, IntArray, StepLog
from dpaudit.instrument.script.shelf import Shelf
from dpaudit.instrument.script.step_names import BY_HAND, STATED, UPDATE

_NUMBERED = (Method.CARRIED, Method.NEXT_INDEX)
_BLOCK = 1 << 12
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
    skipped: int = 0
    """Steps that a gradient scaler did not let it make."""
    place: Path | None = None
    """Directory of the trace; None: it is in memory."""
    feed: int = 0
    """Number of the data set, in the order in which they were begun."""
    uses: tuple[int, int] = (0, 0)
    """Uses of its batches before the first of these steps, and by the end of the last."""


@dataclass(frozen=True, slots=True)
class _FeedSource:
    """What `finish` wants to know of a source."""

    method: Method
    facts: LoaderFacts
    notes: tuple[str, ...]
    rows: RecordNumbers | None


def traces_of(
    feed: Feed, num_records: int | None, is_rank: bool = False, shelf: Shelf | None = None, place: int = 0
) -> Iterator[FedOptimizer]:
    """Give the trace of each optimizer that batches of this feed went into.

    Args:
      feed: of one data set.
      num_records: N as the user gives it.
      is_rank: whether traces of other ranks will be joined with it.
      shelf: where they are put together; None: in memory.
      place: number of the feed.

    Raises:
      DpauditError: record numbers out of range, or that contradict N.
    """
    if not len(feed.uses) or not feed.delivered:
        return
    shelf = shelf or Shelf()
    told = attribute(feed.uses, feed.pass_of, feed.log.sizes)
    indices = feed.log.indices()
    offsets = np.concatenate(([0], np.cumsum(np.asarray(feed.log.sizes, np.int64))))
    sample = content_sample(feed.dataset) if is_rank and feed.method in _NUMBERED else None
    for number, log in feed.steps.items():
        if not log.uses:
            continue
        fed = fed_steps(feed, told, log, offsets)
        if not np.diff(offsets)[fed.batches].any():
            continue
        refuse_kept_batches(feed, told, len(fed.steps))
        unfed = len(log.uses) - int(fed.steps[0]) - len(fed.steps)
        notes = tuple(_notes(feed, told, unfed, len(log.skips)))
        source = _FeedSource(feed.method, feed.facts, notes, rows_of(feed, fed.passes))
        recorder = shelf.recorder(feed.method)
        # Recorders read method, facts, notes and rows of a source, and nothing else.
        recorder.opened(source, num_records)  # type: ignore[arg-type]
        _record(recorder, feed, told, fed, indices, offsets)
        recorder.uncertain = feed.uncertain
        recording = finish(recorder, source, stated=num_records, labels=None, seed=None)  # type: ignore[arg-type]
        yield FedOptimizer(
            number=number,
            optimizer=log.optimizer,
            recording=recording,
            batches=len(fed.batches),
            step_numbers=fed.steps + log.number,
            sample=sample,
            skipped=len(log.skips),
            place=shelf.keep(recorder, recording),
            feed=place,
            uses=(int(fed.first_use[0]), int(fed.last_use[-1])),
        )


def refuse_kept_batches(feed: Feed, told: Attribution, steps: int) -> None:
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


@dataclass(frozen=True, slots=True, eq=False)
class FedSteps:
    """Which steps of an optimizer had batches of a feed in them, and which of its uses each had."""

    steps: IntArray
    """Counted from the first that the feed knows of, shape (rows,)."""
    first_use: IntArray
    last_use: IntArray
    reached: IntArray
    """Batches delivered by the end of each."""
    batches: IntArray
    """Numbers of the different batches in them, rising."""
    passes: IntArray
    """Numbers of the passes that these came from, rising."""


def fed_steps(feed: Feed, told: Attribution, log: StepLog, offsets: IntArray) -> FedSteps:
    """Find the steps that batches of a feed went into; `offsets` are those of its batches."""
    (begin, came), end = feed.begins(log), np.array(log.uses, np.int64)
    reached = np.array(log.reached, np.int64)
    # A program may leave out the backward of an empty batch, and still add noise and step.
    empty = (reached > came) & (offsets[reached] == offsets[came]) & (told.pattern is Pattern.DIRECT)
    used = end > begin
    fed = np.flatnonzero(used | empty)
    inside = np.zeros(len(told.first) + 1, np.int64)
    np.add.at(inside, begin, 1)
    np.add.at(inside, end, -1)
    uses = np.flatnonzero(np.cumsum(inside)[:-1] > 0)
    change = np.zeros(feed.delivered + 1, np.int64)
    np.add.at(change, told.first[uses], 1)
    np.add.at(change, told.last[uses], -1)
    touched = np.cumsum(change)[:-1] > 0
    touched[reached[empty & ~used] - 1] = True
    batches = np.flatnonzero(touched)
    passes = np.unique(np.array(feed.pass_of, np.int64)[batches])
    return FedSteps(fed, begin[fed], end[fed], reached[fed], batches, passes)


def numbers_of_steps(told: Attribution, fed: FedSteps, start: int = 0) -> Iterator[list[int]]:
    """Give the numbers of the batches of each step from the `start`-th fed one on."""
    for block in range(start, len(fed.steps), _BLOCK):
        rows = slice(block, block + _BLOCK)
        for begin, end, latest in zip(
            fed.first_use[rows].tolist(), fed.last_use[rows].tolist(), fed.reached[rows].tolist(), strict=True
        ):
            used = (range(told.first[use], told.last[use]) for use in range(begin, end))
            yield list(dict.fromkeys(itertools.chain.from_iterable(used))) or [latest - 1]


def _record(
    recorder: Recorder,
    feed: Feed,
    told: Attribution,
    fed: FedSteps,
    indices: npt.NDArray[Any],
    offsets: IntArray,
) -> None:
    """Put together the batches of each step."""
    recorder.start_run()
    seen_pass = -1
    for numbers in numbers_of_steps(told, fed):
        source = feed.pass_of[numbers[-1]]
        if source != seen_pass:
            recorder.start_epoch()
            seen_pass = source
        recorder.add(records_of(numbers, indices, offsets))


def records_of(numbers: list[int], indices: npt.NDArray[Any], offsets: IntArray) -> npt.NDArray[Any]:
    """Give the records of some batches, one after the other."""
    parts = [indices[offsets[number] : offsets[number + 1]] for number in numbers]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def rows_of(feed: Feed, passes: IntArray) -> RecordNumbers | None:
    """Number the records that the passes in use could reach."""
    if feed.method in (Method.FINGERPRINT, Method.STREAM):
        return None
    subsets = [feed.subsets[number] for number in passes.tolist()]
    first = subsets[0]
    inside = feed.numbering()
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


def _notes(feed: Feed, told: Attribution, unfed: int, skipped: int) -> Iterator[str]:
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
    if skipped:
        yield (
            f"ATTENTION: a gradient scaler skipped {skipped} steps, because gradients were not finite: their "
            "batches are in no step."
        )
    if feed.replaced:
        yield (
            f"The program made the data set object anew {feed.replaced} times: each was taken to hold the "
            "same records in the same order."
        )


def _importance(one: FedOptimizer) -> tuple[bool, bool, bool, int, int]:
    """Order traces: steps that the program marks first, bare updates last, then by size."""
    stated = one.recording.facts.loader == STATED
    return one.optimizer != BY_HAND, not stated, one.optimizer == UPDATE, -one.batches, one.number


def read_traces(
    feeds: list[Feed], num_records: int | None, is_rank: bool = False, shelf: Shelf | None = None
) -> tuple[list[FedOptimizer], list[str]]:
    """Give all traces, that of the training first, and why others could not be had."""
    found: list[FedOptimizer] = []
    problems: list[str] = []
    for place, feed in enumerate(feeds):
        what = feed.facts.dataset or feed.facts.loader
        if feed.unreadable:
            problems.append(f"Batches of {what} cannot be followed: {feed.unreadable}.")
        try:
            found += traces_of(feed, num_records, is_rank, shelf, place)
        except DpauditError as error:
            problems.append(f"Batches of {what} cannot be followed: {error.message}. {error.hint}".rstrip())
    return sorted(found, key=_importance), problems
