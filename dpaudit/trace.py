"""SamplingTrace: which records were in which optimizer step.

A trace says who was in which batch, the secret that amplification by sampling rests on. Treat the
file like the data itself; reports never embed it.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import TraceError

IntArray = npt.NDArray[np.integer[Any]]
_PART = 1 << 22
"""Draws that are counted at a time."""
_OPTIONAL = ("epoch_starts", "run_starts", "groups")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamplingTrace:
    """Batches in compressed rows: step t holds `indices[offsets[t]:offsets[t + 1]]`.

    One row is one **optimizer step** (logical batch); an empty batch is a step and stays.
    The arrays are kept read-only; integer arrays are not copied.

    Raises:
      TraceError: the arrays contradict each other, or an index is outside 0..num_records - 1.
    """

    indices: IntArray
    """Record numbers, int32 or int64, shape (draws,), each in 0..num_records - 1."""
    offsets: IntArray
    """Row limits, int64, shape (steps + 1,), from 0 to draws, never falling."""
    num_records: int
    """N, the size of the data set (not of the sampler)."""
    epoch_starts: IntArray | None = None
    """Steps at which the loader was iterated anew, where that was seen; rising, within a run."""
    run_starts: IntArray | None = None
    """First step of each run, rising from 0; None for a single run."""
    groups: IntArray | None = None
    """Label of each record (class, user, bucket ...), shape (num_records,)."""
    numbered_by_appearance: bool = False
    """Whether records were numbered as they came, so that their numbers say nothing of the data's order."""
    remarks: tuple[str, ...] = ()
    """What a report must say of how the trace was read; not stored."""
    withheld: str = ""
    """Why no verdict can rest on it: what went into the steps was not seen; "" if it was."""

    def __post_init__(self) -> None:
        for name in ("indices", "offsets", *_OPTIONAL):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _frozen_integers(name, value))
        object.__setattr__(self, "offsets", self.offsets.astype(np.int64, copy=False))
        if isinstance(self.num_records, bool) or not isinstance(self.num_records, (int, np.integer)):
            raise TraceError(f"num_records must be a whole number, got {self.num_records!r}")
        object.__setattr__(self, "num_records", int(self.num_records))
        _check(self)

    @property
    def steps(self) -> int:
        """Number of optimizer steps, over all runs."""
        return len(self.offsets) - 1

    @property
    def draws(self) -> int:
        """Number of (step, record) pairs."""
        return len(self.indices)

    @property
    def batch_sizes(self) -> npt.NDArray[np.int64]:
        """Size of each batch, shape (steps,)."""
        return np.diff(self.offsets)

    def batch(self, step: int) -> IntArray:
        """Give the record numbers of one step."""
        return self.indices[self.offsets[step] : self.offsets[step + 1]]

    def batches(self) -> Iterator[IntArray]:
        """Walk the steps in order."""
        return (self.batch(step) for step in range(self.steps))

    def inclusions(self) -> npt.NDArray[np.int64]:
        """Count the draws of each record, shape (N,), without a copy of the numbers."""
        counts = np.zeros(self.num_records, np.int64)
        for first in range(0, self.draws, _PART):
            counts += np.bincount(self.indices[first : first + _PART], minlength=self.num_records)
        return counts

    def runs(self) -> tuple[SamplingTrace, ...]:
        """Split into single-run traces, which share memory with this one."""
        if self.run_starts is None:
            return (self,)
        limits = [*self.run_starts.tolist(), self.steps]
        return tuple(self._slice(first, last) for first, last in itertools.pairwise(limits))

    def _slice(self, first: int, last: int) -> SamplingTrace:
        start, stop = int(self.offsets[first]), int(self.offsets[last])
        epochs = self.epoch_starts
        if epochs is not None:
            epochs = epochs[(epochs >= first) & (epochs < last)] - first
        return SamplingTrace(
            indices=self.indices[start:stop],
            offsets=self.offsets[first : last + 1] - start,
            num_records=self.num_records,
            epoch_starts=epochs,
            groups=self.groups,
            numbered_by_appearance=self.numbered_by_appearance,
            remarks=self.remarks,
            withheld=self.withheld,
        )

    @classmethod
    def from_batches(
        cls, batches: Iterable[Sequence[int] | IntArray], *, num_records: int, **optional: Any
    ) -> SamplingTrace:
        """Build a trace from one sequence of record numbers per step.

        Args:
          batches: finite; an empty sequence is an empty step.
          num_records: N.
          **optional: `epoch_starts`, `run_starts`, `groups`, `numbered_by_appearance`.
        """
        rows = [_frozen_integers("a batch", np.asarray(batch)) for batch in batches]
        sizes = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        width = np.int32 if num_records <= np.iinfo(np.int32).max else np.int64
        indices = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        _check_range(indices, num_records)
        return cls(
            indices=indices.astype(width),
            offsets=np.concatenate(([0], np.cumsum(sizes))),
            num_records=num_records,
            **optional,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an `.npz` file, under a temporary name first, so that no half file is left.

        Raises:
          TraceError: the file cannot be written.
        """
        target = Path(path)
        arrays: dict[str, Any] = {"indices": self.indices, "offsets": self.offsets}
        arrays |= {name: value for name in _OPTIONAL if (value := getattr(self, name)) is not None}
        if self.numbered_by_appearance:
            arrays["numbered_by_appearance"] = np.True_
        if self.withheld:
            arrays["withheld"] = np.frombuffer(self.withheld.encode(), np.uint8)
        try:
            with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".tmp", delete=False) as file:
                np.savez(file, num_records=np.int64(self.num_records), **arrays)
            os.replace(file.name, target)
        except OSError as error:
            raise TraceError(f"cannot write the trace {target}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SamplingTrace:
        """Read an `.npz` file written by `save`, or a trace directory; pickled content is refused.

        A directory is mapped, not copied. Where its end is missing or damaged, the steps before that
        are given, and `remarks` says so.

        Raises:
          TraceError: the file is missing, truncated, pickled, lacks an array, or is malformed.
        """
        if os.path.isdir(path):
            from dpaudit.trace_file import open_trace

            return open_trace(path)
        hint = "A trace is an .npz file with the arrays indices, offsets and num_records."
        arrays: dict[str, Any] = dict(_read_arrays(path, hint))
        missing = {"indices", "offsets", "num_records"} - arrays.keys()
        by_appearance = bool(arrays.pop("numbered_by_appearance", False))
        withheld = np.asarray(arrays.pop("withheld", ()), np.uint8).tobytes().decode(errors="replace")
        unknown = arrays.keys() - {"indices", "offsets", "num_records", *_OPTIONAL}
        if missing or unknown:
            what = "lacks" if missing else "has the unknown array"
            raise TraceError(f"the trace {path} {what} {', '.join(sorted(missing or unknown))}", hint)
        if arrays["num_records"].shape != ():
            raise TraceError(f"the trace {path} has a num_records that is not a single number", hint)
        try:
            num_records = arrays.pop("num_records").item()
            return cls(
                num_records=num_records, numbered_by_appearance=by_appearance, withheld=withheld, **arrays
            )
        except TraceError as error:
            raise TraceError(f"the trace {path} is malformed: {error.message}", error.hint) from error


def _read_arrays(path: str | os.PathLike[str], hint: str) -> dict[str, npt.NDArray[Any]]:
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise TraceError(f"{path} is a bare array, not a trace", hint)
        with file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            reason = "no such file"
        elif isinstance(error, ValueError):  # numpy would advise to load it unsafely
            reason = "it is not an archive of plain number arrays"
        else:
            reason = str(error)
        raise TraceError(f"cannot read the trace {path}: {reason}", hint) from error


def _frozen_integers(name: str, value: Any) -> IntArray:
    array = np.asarray(value)
    if array.ndim != 1:
        raise TraceError(f"{name} must have one dimension, got shape {array.shape}")
    if array.size == 0 and array.dtype.kind != "i":
        array = array.astype(np.int64)
    if array.dtype.kind == "u":
        array = array.astype(np.int64)
    if array.dtype.kind != "i":
        raise TraceError(f"{name} must hold whole numbers, got {array.dtype}")
    view: IntArray = array.view()
    view.setflags(write=False)
    return view


def _check(trace: SamplingTrace) -> None:
    offsets = trace.offsets
    if trace.num_records < 1:
        raise TraceError(f"num_records must be at least 1, got {trace.num_records}")
    if len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != trace.draws or (np.diff(offsets) < 0).any():
        raise TraceError("offsets must rise from 0 to the number of draws")
    _check_range(trace.indices, trace.num_records)
    for name in ("epoch_starts", "run_starts"):
        starts = getattr(trace, name)
        if starts is None or len(starts) == 0:
            continue
        if starts[0] < 0 or starts[-1] > trace.steps or (np.diff(starts) <= 0).any():
            raise TraceError(f"{name} must rise within 0..{trace.steps}")
    if trace.run_starts is not None and (len(trace.run_starts) == 0 or trace.run_starts[0] != 0):
        raise TraceError("run_starts must begin with 0")
    if trace.groups is not None and len(trace.groups) != trace.num_records:
        raise TraceError(f"groups has {len(trace.groups)} labels for {trace.num_records} records")


def _check_range(indices: IntArray, num_records: int) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= num_records):
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise TraceError(
            f"record number {wrong} is outside 0..{num_records - 1}",
            "Is num_records the size of the data set that the indices speak of?",
        )
