"""Trace files that grow while training runs: a directory of plain arrays, checked chunk by chunk.

    trace.json    format, version, num_records (null until known), numbered_by_appearance, and
                  whether the recording has ended ("closed"); "withheld" where no verdict can rest on it
    indices.bin   record numbers of all steps one after the other, little-endian int32 or int64
                  ("index" of trace.json)
    sizes.bin     number of draws of each step, int64
    marks.bin     pairs of int64: a step, and what begins with it (0: a pass over the data, 1: a run)
    chunks.bin    one row of 40 bytes for each finished chunk, `ROW`: steps, draws and marks from the
                  start up to its end, CRC-32 of what it added to sizes, indices and marks, and
                  CRC-32 of the row itself, which goes on from that of the row before
    groups.npy    label of each record, where given

Files are only appended to, the row of a chunk last: whatever a crash leaves behind, the chunks that
have a row and fit their checksums are whole. Nothing in it can run code. The numbers are never
copied on reading: `open_trace` maps them, so that memory stays flat however long the trace is.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import TraceError
from dpaudit.trace import IntArray, SamplingTrace

HEADER, INDICES, SIZES, MARKS, CHUNKS, GROUPS = (
    "trace.json", "indices.bin", "sizes.bin", "marks.bin", "chunks.bin", "groups.npy",
)  # fmt: skip
FORMAT, VERSION = "dpaudit trace", 1
PROGRAM = "program.json"
"""Says that a directory holds the recording of a program, which becomes a trace at its end."""
EPOCH, RUN = 0, 1
ROW = np.dtype(
    [
        *((name, "<u8") for name in ("steps", "draws", "marks")),
        *((name, "<u4") for name in ("crc_steps", "crc_draws", "crc_marks", "crc_row")),
    ]
)
_LONG, _PAIR, _CHECK = np.dtype("<i8"), np.dtype("<i8,<i8"), np.dtype("<u4")
_HINT = "A trace directory is written by --stream, dpaudit.watch(..., stream=...) or TraceWriter."


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive steps of a trace file."""

    first_step: int
    indices: IntArray
    sizes: npt.NDArray[np.int64]
    marks: npt.NDArray[np.int64]
    """Rows (step, what begins), steps counted from the start of the file."""


class TraceReader:
    """Reads the whole chunks of a trace directory, also while it is being written.

    Args:
      path: of the directory.
      form: what its header must say that it is.

    Raises:
      TraceError: it is none.
    """

    def __init__(self, path: str | os.PathLike[str], form: str = FORMAT) -> None:
        self.path = Path(path)
        self._form = form
        self.header = _header(self.path, form)
        self.remark = ""
        """What is wrong with the chunk after the last whole one; "" for nothing."""
        self._width = np.dtype(self.header["index"])
        self._taken = np.zeros(1, ROW)[0]
        self._chunks = 0

    @property
    def closed(self) -> bool:
        """Whether the recording has ended; looked up anew."""
        self.header = _header(self.path, self._form)
        return bool(self.header["closed"])

    @property
    def withheld(self) -> str:
        """Why no verdict can rest on it; "" if one can."""
        return str(self.header.get("withheld", ""))

    @property
    def steps(self) -> int:
        """Steps of the chunks taken so far."""
        return int(self._taken["steps"])

    @property
    def draws(self) -> int:
        """Draws of the chunks taken so far."""
        return int(self._taken["draws"])

    def chunks(self) -> Iterator[Chunk]:
        """Give the whole chunks that came since the last call; stop before one that is not whole."""
        with _reading(self.path), (self.path / CHUNKS).open("rb") as file:
            file.seek(self._chunks * ROW.itemsize)
            content = file.read()
        whole = len(content) // ROW.itemsize
        for row in np.frombuffer(content, ROW, whole):
            chunk = self._checked(row)
            if chunk is None:
                return
            self._taken, self._chunks = row, self._chunks + 1
            yield chunk
        self.remark = "its entry is cut short" if len(content) % ROW.itemsize else ""

    def mapped(self) -> tuple[IntArray, npt.NDArray[np.int64]]:
        """Map the record numbers and the sizes of all chunks taken so far.

        Raises:
          TraceError: the files were cut since.
        """
        indices = _mapped(self.path / INDICES, self._width, 0, self.draws)
        sizes = _mapped(self.path / SIZES, _LONG, 0, self.steps)
        if sizes is None or indices is None:
            raise TraceError(f"the trace {self.path} was cut while it was read", _HINT)
        return indices, sizes

    def _checked(self, row: np.void) -> Chunk | None:
        before = self._taken
        if int(row["crc_row"]) != row_checksum(row, before):
            self.remark = "its entry is damaged"
            return None
        parts = []
        for count, file, width in (
            ("draws", INDICES, self._width),
            ("steps", SIZES, _LONG),
            ("marks", MARKS, _PAIR),
        ):
            part = _mapped(self.path / file, width, int(before[count]), int(row[count]))
            if part is None or zlib.crc32(part.view(np.uint8).data) != row[f"crc_{count}"]:
                self.remark = f"{file} is {'cut short' if part is None else 'damaged'}"
                return None
            parts.append(part)
        indices, sizes, marks = parts
        if (sizes < 0).any() or sizes.sum() != len(indices):
            self.remark = "its sizes do not add up to its draws"
            return None
        return Chunk(int(before["steps"]), indices, sizes, marks.view(_LONG).reshape(-1, 2))


def open_trace(path: str | os.PathLike[str]) -> SamplingTrace:
    """Read a trace directory, mapped, not copied; all of it is checked once.

    Where a chunk is not whole, the steps before it are given, and `remarks` says so.

    Raises:
      TraceError: it is none, no chunk is whole, or its numbers contradict each other.
    """
    reader = TraceReader(path)
    largest, begun = -1, [np.zeros((0, 2), np.int64)]
    for chunk in reader.chunks():
        largest = max(largest, int(chunk.indices.max(initial=-1)))
        begun.append(chunk.marks)
    steps = reader.steps
    if steps == 0:
        damage = f": {reader.remark}" if reader.remark else ""
        raise TraceError(f"the trace {reader.path} holds no whole chunk{damage}", _HINT)
    indices, sizes = reader.mapped()
    offsets = np.zeros(steps + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    marks = np.concatenate(begun)
    epochs, runs = (
        np.unique(marks[(marks[:, 1] == kind) & (marks[:, 0] < steps), 0]) for kind in (EPOCH, RUN)
    )
    stated = reader.header["num_records"]
    try:
        return SamplingTrace(
            indices=indices,
            offsets=offsets,
            num_records=max(largest, 0) + 1 if stated is None else stated,
            epoch_starts=epochs if len(epochs) else None,
            run_starts=np.union1d([0], runs) if (runs > 0).any() else None,
            groups=_groups(reader.path),
            numbered_by_appearance=reader.header["numbered_by_appearance"],
            remarks=tuple(_remarks(reader, largest)),
            withheld=reader.withheld,
        )
    except TraceError as error:
        raise TraceError(f"the trace {reader.path} is malformed: {error.message}", error.hint) from error


def row_checksum(row: np.void, before: np.void) -> int:
    """Give the CRC-32 of a row but for its last field, going on from that of the row before."""
    return zlib.crc32(row.tobytes()[: -_CHECK.itemsize], int(before["crc_row"]))


def _remarks(reader: TraceReader, largest: int) -> Iterator[str]:
    if reader.remark:
        yield (
            f"The trace file is damaged after step {reader.steps} ({reader.remark}): only the {reader.steps} "
            "steps before that were used."
        )
    elif not reader.header["closed"]:
        yield (
            f"The recording of this trace has not ended, or was killed: the {reader.steps} steps of its "
            "whole chunks were used."
        )
    if reader.header["num_records"] is None:
        yield f"N was not stated: {largest + 1}, one more than the largest record number, was assumed."


def _header(path: Path, form: str) -> dict[str, Any]:
    with _reading(path):
        try:
            header = json.loads((path / HEADER).read_text(encoding="utf-8"))
            records = header["num_records"]
            fits = (
                (header["format"], header["version"]) == (form, VERSION)
                and header["index"] in ("<i4", "<i8")
                and (records is None or type(records) is int)
                and type(header["closed"]) is type(header["numbered_by_appearance"]) is bool
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TraceError(f"cannot read the trace {path}: {HEADER} is damaged", _HINT) from error
    if not fits:
        raise TraceError(f"cannot read the trace {path}: {HEADER} is not of {form} {VERSION}", _HINT)
    return dict(header)


def _groups(path: Path) -> IntArray | None:
    if not (path / GROUPS).exists():
        return None
    with _reading(path):
        try:
            groups: IntArray = np.load(path / GROUPS, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise TraceError(f"cannot read the trace {path}: {GROUPS} is damaged", _HINT) from error
    return groups


def _mapped(path: Path, width: np.dtype[Any], first: int, last: int) -> npt.NDArray[Any] | None:
    """Map entries of a file, as a plain array; None where it ends before the last or cannot be read."""
    try:
        if last < first or path.stat().st_size < last * width.itemsize:
            return None
        if last == first:
            return np.zeros(0, width)
        shape = (last - first,)
        return np.asarray(np.memmap(path, width, "r", offset=first * width.itemsize, shape=shape))
    except OSError:
        return None


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "no such directory" if not path.exists() else error.strerror or str(error)
        raise TraceError(f"cannot read the trace {path}: {reason}", _HINT) from error
