"""Put the traces of all ranks together: a step of the training holds what all ranks put into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.result import number_by_appearance
from dpaudit.instrument.script.rank_part import RankPart
from dpaudit.instrument.script.script_result import ScriptRun
from dpaudit.trace import SamplingTrace

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Union:
    """The batches of all ranks by optimizer step."""

    trace: SamplingTrace
    steps: int
    """Optimizer steps that all ranks made."""


def joint_run(first: ScriptRun, parts: Sequence[RankPart], stated: int | None) -> ScriptRun:
    """Give the run of the whole training, with the claim that the first rank made.

    Args:
      first: the run of rank 0.
      parts: of all ranks, in their order.
      stated: N as the user gives it; None: as the ranks tell.

    Raises:
      DpauditError: the ranks did not train together, or not from one data set.
    """
    check_together(parts, stated)
    union = unite(parts, stated)
    failed = [rank for rank, part in enumerate(parts) if part.facts.ending.is_failure]
    main = first.main
    recording = replace(
        main.recording, trace=union.trace, notes=(*main.recording.notes, *_notes(parts, union, failed))
    )
    batches = sum(len(part.step_numbers) for part in parts)
    joined = replace(main, recording=recording, batches=batches, step_numbers=np.arange(union.trace.steps))
    ending = first.ending
    if failed and not ending.is_failure:
        other = parts[failed[0]].facts.ending
        ending = replace(other, message=f"on rank {failed[0]}: {other.message}")
    return replace(
        first,
        traces=(joined, *first.traces[1:]),
        steps=union.steps,
        ending=ending,
        unjudgeable=first.unjudgeable
        or _first_of(part.facts.unjudgeable for part in parts)
        or _copies(parts),
        doubt=_drift(parts) or first.doubt or _first_of(part.facts.doubt for part in parts),
    )


def _first_of(told: Iterable[str]) -> str:
    return next(filter(None, told), "")


def check_together(parts: Sequence[RankPart], stated: int | None) -> None:
    """Refuse ranks whose records or steps have nothing to do with each other.

    Raises:
      DpauditError: no process group, or different data sets, optimizers or ways of telling records.
    """
    if not any(part.facts.in_group for part in parts):
        raise DpauditError(
            f"the {len(parts)} ranks joined no process group of torch: as many trainings ran side by side",
            "Audit one by itself, without torchrun.",
        )
    first = parts[0]
    for rank, part in enumerate(parts[1:], 1):
        for what in ("method", "dataset", "optimizer"):
            one, other = getattr(first.facts, what), getattr(part.facts, what)
            if one != other:
                raise DpauditError(f"ranks differ in their {what}: {one} on rank 0, {other} on rank {rank}")
        if (first.names is None and part.names is None) and first.trace.num_records != part.trace.num_records:
            raise DpauditError(
                f"ranks hold different numbers of records: {first.trace.num_records} on rank 0, "
                f"{part.trace.num_records} on rank {rank}",
                _ONE_DATA_SET,
            )
        if first.trace.numbered_by_appearance or first.facts.method == "stream of record numbers":
            continue
        if part.facts.sample != first.facts.sample:
            raise DpauditError(f"rank 0 and rank {rank} read different data sets", _ONE_DATA_SET)
        if first.facts.sample is None and stated is None:
            raise DpauditError(
                "whether all ranks read one data set cannot be told: its records cannot be read again, or "
                "come different each time",
                "If they do, say how many records it holds: --num-records N.",
            )


_ONE_DATA_SET = (
    "Records can only be followed over ranks that read one data set in one order: let each rank open all of "
    "it, and split it by a sampler or by Subset."
)


def unite(parts: Sequence[RankPart], stated: int | None) -> Union:
    """Join the batches of all ranks at each optimizer step that all of them made.

    A step counts if any rank put a batch into it; ranks that put in none added no record.

    Args:
      parts: of all ranks.
      stated: N; None: the number that the ranks tell.
    """
    steps = min(part.facts.steps for part in parts)
    step = np.concatenate([np.repeat(part.step_numbers, part.trace.batch_sizes) for part in parts])
    name = np.concatenate(
        [part.trace.indices if part.names is None else part.names[part.trace.indices] for part in parts]
    )
    order = np.argsort(step, kind="stable")[: int(np.count_nonzero(step < steps))]
    step, name = step[order], name[order].astype(np.int64)
    fed = np.unique(np.concatenate([part.step_numbers for part in parts]))
    fed = fed[fed < steps]
    indices, num_records = _numbered(parts, name, stated)
    starts = parts[0].trace.epoch_starts
    if starts is not None:  # the passes of the first rank stand for those of all
        begun = parts[0].step_numbers[starts]
        starts = np.unique(np.searchsorted(fed, begun[begun < steps]))
    trace = SamplingTrace(
        indices=indices,
        offsets=np.append(np.searchsorted(step, fed, side="left"), len(step)),
        num_records=num_records,
        epoch_starts=starts,
        numbered_by_appearance=parts[0].trace.numbered_by_appearance,
    )
    return Union(trace=trace, steps=steps)


def _numbered(
    parts: Sequence[RankPart], name: IntArray, stated: int | None
) -> tuple[npt.NDArray[np.integer[Any]], int]:
    """Number the records of all ranks 0..N - 1."""
    if parts[0].trace.numbered_by_appearance:
        numbers, marks = number_by_appearance(name)
        known = max(part.trace.num_records for part in parts)
        return numbers, max(len(marks), stated or known)
    if all(part.names is None for part in parts):
        return name, parts[0].trace.num_records
    every = [np.arange(part.trace.num_records) if part.names is None else part.names for part in parts]
    distinct = np.unique(np.concatenate(every))
    return np.searchsorted(distinct, name), max(len(distinct), stated or 0)


def _copies(parts: Sequence[RankPart]) -> str:
    """Say so if all ranks had the same batches and nothing shows that they split the data."""
    if any(part.facts.data_parallel for part in parts) or not all(
        np.array_equal(part.step_numbers, parts[0].step_numbers)
        and np.array_equal(part.trace.offsets, parts[0].trace.offsets)
        and np.array_equal(_names(part), _names(parts[0]))
        for part in parts[1:]
    ):
        return ""
    return (
        "All ranks had the very same batches in every step: as it must be where they split the model, and "
        "wrong where they split the data. No data-parallel wrapper was seen that would tell which."
    )


def _names(part: RankPart) -> npt.NDArray[np.integer[Any]]:
    return part.trace.indices if part.names is None else part.names[part.trace.indices]


def _drift(parts: Sequence[RankPart]) -> str:
    steps = [part.facts.steps for part in parts]
    if len(set(steps)) == 1:
        return ""
    told = ", ".join(f"{count} on rank {rank}" for rank, count in enumerate(steps))
    return f"The ranks made different numbers of optimizer steps ({told}): they drifted apart."


def _notes(parts: Sequence[RankPart], union: Union, failed: list[int]) -> Iterator[str]:
    draws = ", ".join(str(part.trace.draws) for part in parts)
    yield (
        f"{len(parts)} ranks were put together by optimizer step: {union.trace.steps} steps with "
        f"{union.trace.draws} draws from {union.trace.num_records} records; by rank {draws} draws. Numbers "
        "of batches before this are those of rank 0."
    )
    if drift := _drift(parts):
        yield f"ATTENTION: {drift} Only the first {union.steps}, which all of them made, were tested."
    for rank in failed:
        ending = parts[rank].facts.ending
        if rank:
            yield f"ATTENTION: the program {ending.how.value} on rank {rank} ({ending.message})."
