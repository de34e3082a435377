"""What a recording gives: the trace, how it was had, and what can be said of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.copies import tell_copies
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.index_log import IntArray
from dpaudit.instrument.methods import Method
from dpaudit.instrument.plausible import check_masks, check_numbers
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.records import RecordNumbers
from dpaudit.instrument.sources import Source
from dpaudit.trace import SamplingTrace

Labels = Sequence[Any] | npt.NDArray[Any]
_LABELS_OF_NO_RECORD = (
    "labels cannot be joined with records that were told apart by their content: these have no row numbers"
)
_COPIES = (
    "Passes over the data set show how many records have the same content: these were told apart by chance."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """A trace with how it was had and what the loader says of itself."""

    trace: SamplingTrace
    method: Method
    facts: LoaderFacts
    seed: int | None
    """Seed of the first run; run r had seed + r. None: the global generators were left alone."""
    notes: tuple[str, ...]
    """Sentences for the report: method, amount seen, assumptions."""
    names: npt.NDArray[np.int64] | None = None
    """What each record is called in other recordings of the same data: the mark of its content, or its row
    in the innermost data set; shape (distinct records,). None: record i is row i."""


def finish(
    recorder: Recorder,
    source: Source,
    *,
    stated: int | None,
    labels: Labels | None,
    seed: int | None,
    notes: tuple[str, ...] = (),
) -> Recording:
    """Turn what a recorder holds into a Recording.

    Args:
      recorder: after the last run.
      source: what was read.
      stated: N as the user gives it.
      labels: of each row of the data set.
      seed: of the first run, for the record.
      notes: of the caller, kept before those on the trace.

    Raises:
      DpauditError: nothing was recorded, the numbers contradict N or are none of records, or labels do
        not fit.
    """
    said = [source.method.explanation, *source.notes, *recorder.remarks, *notes]
    indices = recorder.indices()
    by_appearance = source.method is Method.FINGERPRINT
    known = stated or source.facts.num_records
    said += check_masks(recorder, source.method, known)
    if source.method is Method.STREAM and source.facts.sampler is None and not recorder.masks:
        said[:0] = check_numbers(indices, recorder.batch_sizes, known)
    names: npt.NDArray[np.int64] | None
    if by_appearance:
        _refuse_unreadable(indices)
        indices, names = number_by_appearance(indices)
        copies = tell_copies(indices, recorder.pass_starts(), known)
        if copies is not None:
            indices, names = copies[0], _names_of_copies(names, copies[1])
            said.append(_COPIES)
        num_records = _count_fingerprints(len(names), known, recorder.epochs, len(indices), said)
    else:
        num_records = _count_records(indices, source, stated, said)
        names = None if source.rows is None else source.rows.origins
    rows = None if recorder.translated else source.rows
    recorder.check_range(indices, num_records if rows is None else rows.rows)
    if rows is not None:
        indices = rows.of(indices)
    if by_appearance and labels is not None:
        raise DpauditError(_LABELS_OF_NO_RECORD)
    groups = None if labels is None else group_numbers(labels, num_records, source.rows)
    trace = recorder.trace(indices, num_records, groups, by_appearance)
    if by_appearance and (repeated := repeated_within_a_pass(trace)):
        said.append(
            f"{repeated} records came more than once within one pass over the data set: identical records, "
            "which count here as one, or a stream that repeats them."
        )
    said += _of_trace(trace, recorder)
    return Recording(
        trace=trace, method=source.method, facts=source.facts, seed=seed, notes=tuple(said), names=names
    )


def from_trace(trace: SamplingTrace, labels: Labels | None) -> Recording:
    """Give a stored trace the form of a recording."""
    if labels is not None:
        if trace.numbered_by_appearance:
            raise DpauditError(_LABELS_OF_NO_RECORD)
        trace = replace(trace, groups=group_numbers(labels, trace.num_records, None))
    if trace.draws == 0:
        raise DpauditError(f"none of the {trace.steps} batches of the trace holds a record")
    # Of records that are told by content, N may have been assumed to be as many as were seen.
    assumed = trace.numbered_by_appearance and trace.num_records == int(trace.indices.max()) + 1
    facts = LoaderFacts(loader="trace file", num_records=None if assumed else trace.num_records)
    notes = (Method.TRACE.explanation, *trace.remarks, *_of_trace(trace, None))
    return Recording(trace=trace, method=Method.TRACE, facts=facts, seed=None, notes=notes)


def group_numbers(labels: Labels, num_records: int, rows: RecordNumbers | None) -> npt.NDArray[np.int64]:
    """Number the labels 0, 1, 2 ... in sorted order, one for each record.

    Args:
      labels: one for each row of the data set, shape (rows,).
      num_records: N.
      rows: row -> record; the first row of a record gives its label.

    Raises:
      DpauditError: the number of labels does not fit.
    """
    values = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
    _, codes = np.unique(values, return_inverse=True)
    codes = codes.reshape(-1).astype(np.int64)
    wanted = num_records if rows is None else rows.rows
    if values.ndim != 1 or len(codes) != wanted:
        raise DpauditError(f"labels of shape {values.shape} do not fit {wanted} records")
    if rows is None or rows.numbers is None:
        return codes
    groups = np.empty(num_records, np.int64)
    groups[rows.numbers[::-1]] = codes[::-1]
    return groups


def _refuse_unreadable(marks: IntArray) -> None:
    unreadable = int(np.count_nonzero(marks < 0))
    if unreadable:
        raise DpauditError(
            f"{unreadable} of {len(marks)} records have no content that can be read: they are of a type that "
            "does not pickle",
            "Let the data set give tensors, arrays, numbers or strings; or write a function "
            "batches(seed, steps) that yields record numbers.",
        )


def number_by_appearance(marks: IntArray) -> tuple[IntArray, npt.NDArray[np.int64]]:
    """Replace marks by 0, 1, 2 ... in the order of their first appearance; give the mark of each too."""
    distinct, first, inverse = np.unique(marks, return_index=True, return_inverse=True)
    rank = np.empty(len(distinct), np.int64)
    order = np.argsort(first)
    rank[order] = np.arange(len(distinct))
    return rank[inverse], distinct[order].astype(np.int64)


def _names_of_copies(marks: npt.NDArray[np.int64], contents: IntArray) -> npt.NDArray[np.int64]:
    """Name equal records by their mark and the numbers after it."""
    place = np.arange(len(contents)) - np.searchsorted(contents, contents)
    return marks[contents] + place


def repeated_within_a_pass(trace: SamplingTrace) -> int:
    """Count the records that came more than once in at least one pass over the loader."""
    starts = np.zeros(1, np.int64) if trace.epoch_starts is None else trace.epoch_starts
    limits = trace.offsets[np.append(starts, trace.steps)]
    repeated = np.zeros(trace.num_records, bool)
    for first, last in itertools.pairwise(limits):
        repeated |= np.bincount(trace.indices[first:last], minlength=trace.num_records) > 1
    return int(repeated.sum())


def _count_records(indices: IntArray, source: Source, stated: int | None, notes: list[str]) -> int:
    known = source.facts.num_records if source.rows is None else source.rows.num_records
    if stated is not None:
        if known not in (None, stated):
            notes.append(f"N was given as {stated}; the loader's data set holds {known} records.")
        return stated
    if known is not None:
        return known
    count = int(indices.max(initial=0)) + 1
    notes.append(f"N was not given: {count}, one more than the largest record number, was assumed.")
    return count


def _count_fingerprints(distinct: int, known: int | None, passes: int, draws: int, notes: list[str]) -> int:
    hint = (
        "If it augments records at random, audit the data set before the augmentation; or write a function "
        "batches(seed, steps) that yields record numbers."
    )
    if known is not None and distinct > known:
        raise DpauditError(f"{distinct} different records came from a data set of {known}", hint)
    if known is None:
        if passes > 1 and distinct == draws > 0:
            raise DpauditError(f"no record came twice in {passes} passes over the data set", hint)
        notes.append(f"N was not given: the number of different records seen, {distinct}, was assumed.")
    return max(known or distinct, 1)


def _of_trace(trace: SamplingTrace, recorder: Recorder | None) -> Iterator[str]:
    seen = int(np.count_nonzero(trace.inclusions()))
    empty = int(np.count_nonzero(trace.batch_sizes == 0))
    passes = (
        "" if recorder is None or not recorder.epochs else f" in {recorder.epochs} passes over the loader"
    )
    yield (
        f"{trace.steps} steps{passes} with {trace.draws} draws; {seen} of {trace.num_records} records were "
        f"seen, {empty} steps were empty."
    )
    if recorder is not None and recorder.uncertain:
        yield (
            f"In {recorder.uncertain} batches the data set or the collate function changed the number of "
            "records in a way that does not show which are left; they are recorded as they were asked for."
        )
