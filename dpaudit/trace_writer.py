"""Write trace directories while training runs, chunk by chunk; the format is that of `trace_file`."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import TraceError
from dpaudit.trace import IntArray, SamplingTrace
from dpaudit.trace_file import (
    CHUNKS,
    EPOCH,
    FORMAT,
    GROUPS,
    HEADER,
    INDICES,
    MARKS,
    ROW,
    RUN,
    SIZES,
    VERSION,
    TraceReader,
    open_trace,
    row_checksum,
)

# Draws of a chunk: 1 MiB. What a crash can lose at most, together with `_SECONDS`.
_DRAWS = 1 << 18
_SECONDS = 5.0


class TraceWriter:
    """Append the batches of a run to a new trace directory; a crash loses at most the last chunk.

    A chunk is written once it holds `chunk_draws` draws, or at the first step that comes more than
    `chunk_seconds` after the last one. Only the process that made the writer writes: in a fork it
    does nothing. Not for several threads.

    Args:
      path: must not exist, or be an empty directory.
      num_records: N; None where it is not known, then the largest number seen tells.
      groups: label of each record, shape (num_records,).
      numbered_by_appearance: as in `SamplingTrace`.
      chunk_draws: at least 1.
      chunk_seconds: at least 0.
      form: what its header says that it is.

    Raises:
      TraceError: the directory cannot be made, or holds something.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        num_records: int | None = None,
        groups: IntArray | None = None,
        numbered_by_appearance: bool = False,
        chunk_draws: int = _DRAWS,
        chunk_seconds: float = _SECONDS,
        form: str = FORMAT,
    ) -> None:
        self.path = Path(path)
        self.steps = 0
        """Steps taken, those of the unfinished chunk included."""
        self._chunk_draws, self._chunk_seconds = chunk_draws, chunk_seconds
        wide = num_records is None or num_records > np.iinfo(np.int32).max
        self._header: dict[str, Any] = {
            "format": form,
            "version": VERSION,
            "index": "<i8" if wide else "<i4",
            "num_records": num_records,
            "numbered_by_appearance": numbered_by_appearance,
            "closed": False,
        }
        self._batches: list[IntArray] = []
        self._marks: list[tuple[int, int]] = []
        self._waiting = 0
        self._row = np.zeros(1, ROW)
        self._bytes = dict.fromkeys((INDICES, SIZES, MARKS, CHUNKS), 0)
        self._process = os.getpid()
        self._written = time.monotonic()
        self._make(groups)

    def add(self, batch: npt.ArrayLike) -> None:
        """Take the batch of the next step, and copy it.

        Args:
          batch: record numbers, whole, shape (B,); may be empty.

        Raises:
          TraceError: not of that form, or the directory cannot be written.
        """
        records = np.array(batch)
        if records.size == 0:
            records = np.zeros(0, np.int64)
        if records.ndim != 1 or records.dtype.kind not in "iu":
            raise TraceError(f"a batch must hold whole numbers, got {records.dtype} of shape {records.shape}")
        limit = self._header["num_records"]
        if len(records) and (records.min() < 0 or (limit is not None and records.max() >= limit)):
            wrong = records.min() if records.min() < 0 else records.max()
            raise TraceError(f"record number {wrong} is outside 0..{'N' if limit is None else limit} - 1")
        self._batches.append(records)
        self._waiting += len(records)
        self.steps += 1
        late = time.monotonic() - self._written > self._chunk_seconds
        if self._waiting >= self._chunk_draws or late:
            self.flush()

    def start_epoch(self) -> None:
        """Mark that the loader is iterated anew."""
        self.mark(EPOCH)

    def start_run(self) -> None:
        """Mark that the next batch is the first of a new run."""
        self.mark(RUN)

    def mark(self, what: int) -> None:
        """Mark that something else begins before the next batch; `open_trace` passes over it."""
        self._marks.append((self.steps, what))

    def flush(self) -> None:
        """Finish the chunk, so that nothing taken so far can be lost with this process.

        Raises:
          TraceError: the directory cannot be written.
        """
        if not (self._batches or self._marks) or os.getpid() != self._process:
            return
        width = np.dtype(self._header["index"])
        indices = np.concatenate([np.zeros(0, width), *self._batches]).astype(width)
        sizes = np.array([len(batch) for batch in self._batches], "<i8")
        marks = np.array(self._marks, "<i8").reshape(-1, 2)
        before, row = self._row[0], self._row.copy()
        row["steps"] += len(sizes)
        row["draws"] += len(indices)
        row["marks"] += len(marks)
        parts = {INDICES: indices.tobytes(), SIZES: sizes.tobytes(), MARKS: marks.tobytes()}
        for name, file in (("crc_draws", INDICES), ("crc_steps", SIZES), ("crc_marks", MARKS)):
            row[name] = zlib.crc32(parts[file])
        row["crc_row"] = row_checksum(row[0], before)
        parts[CHUNKS] = row.tobytes()  # last: it vouches for the rest
        for name, part in parts.items():
            self._append(name, part)
        for name, part in parts.items():
            self._bytes[name] += len(part)
        self._row = row
        self._batches, self._marks, self._waiting = [], [], 0
        self._written = time.monotonic()

    def close(self, num_records: int | None = None) -> None:
        """Finish the recording.

        Args:
          num_records: N, where it is known only now.
        """
        if os.getpid() != self._process or self._header["closed"]:
            return
        self.flush()
        if num_records is not None:
            self._header["num_records"] = num_records
        self._header["closed"] = True
        try:
            _write_header(self.path, self._header)
        except OSError as error:
            raise _failure(self.path, error) from error

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, also after an error: what was recorded up to then is whole."""
        self.close()

    def _make(self, groups: IntArray | None) -> None:
        try:
            self.path.mkdir(exist_ok=True)
            if any(self.path.iterdir()):
                raise TraceError(f"cannot write the trace {self.path}: it is not empty", "Give a new name.")
            for name in self._bytes:
                (self.path / name).touch()
            if groups is not None:
                np.save(self.path / GROUPS, groups, allow_pickle=False)
            _write_header(self.path, self._header)
        except OSError as error:
            raise _failure(self.path, error) from error

    def _append(self, name: str, content: bytes) -> None:
        try:
            with (self.path / name).open("r+b", buffering=0) as file:
                file.truncate(self._bytes[name])  # what an attempt that failed has left
                file.seek(self._bytes[name])
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            raise _failure(self.path, error) from error


def join_traces(
    traces: Sequence[SamplingTrace], path: str | os.PathLike[str], *, as_runs: bool = True
) -> SamplingTrace:
    """Write traces of one data set one after the other into a new trace directory, chunk by chunk.

    Args:
      traces: at least one; mapped ones are never in memory as a whole.
      path: as for `TraceWriter`.
      as_runs: each begins a new run, with randomness of its own; False where they are pieces of
        one run, in order.

    Returns:
      The joined trace, mapped.

    Raises:
      ValueError: there is none, they differ in N or groups, or were numbered by appearance, so that
        equal numbers are not equal records.
      TraceError: the directory cannot be written.
    """
    if not traces:
        raise ValueError("there is no trace to join")
    first = traces[0]
    for trace in traces[1:]:
        if trace.num_records != first.num_records:
            raise ValueError(f"traces of {first.num_records} and of {trace.num_records} records do not join")
        if trace.numbered_by_appearance or first.numbered_by_appearance:
            raise ValueError("traces whose records were numbered by appearance do not join")
        if not np.array_equal(_labels(trace), _labels(first)):
            raise ValueError("traces with different groups do not join")
    with TraceWriter(
        path,
        num_records=first.num_records,
        groups=first.groups,
        numbered_by_appearance=first.numbered_by_appearance,
    ) as writer:
        for trace in traces:
            starts = set() if trace.run_starts is None else set(trace.run_starts.tolist())
            starts |= {0} if as_runs else set()
            epochs = set() if trace.epoch_starts is None else set(trace.epoch_starts.tolist())
            for step, batch in enumerate(trace.batches()):
                if step in starts:
                    writer.start_run()
                if step in epochs:
                    writer.start_epoch()
                writer.add(batch)
    if why := next(filter(None, (trace.withheld for trace in traces)), ""):
        withhold(writer.path, why)
    return open_trace(path)


def withhold(path: Path, why: str) -> None:
    """Let no verdict rest on a trace directory, for this reason.

    Raises:
      TraceError: it cannot be read or written.
    """
    header = TraceReader(path).header
    try:
        _write_header(path, {**header, "withheld": why})
    except OSError as error:
        raise _failure(path, error) from error


def _write_header(path: Path, header: dict[str, Any]) -> None:
    temporary = path / f"{HEADER}.tmp"
    temporary.write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path / HEADER)


def _failure(path: Path, error: OSError) -> TraceError:
    return TraceError(f"cannot write the trace {path}: {error.strerror or error}")


def _labels(trace: SamplingTrace) -> IntArray:
    return np.zeros(0, np.int64) if trace.groups is None else trace.groups
