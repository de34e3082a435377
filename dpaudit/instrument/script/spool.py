"""A recording of a program that goes to disk as it grows, so that memory stays flat and a kill loses little.

    program.json    what the directory is; gone once the recording has ended
    feed-0/         the batches of one data set, in the format of `trace_file`: each delivered batch is
                    a row, and what happened between two of them is a mark (`feed_log.Event`)
    feed-0/feed.json, numbering.npz, subsets/    what else `spooled.read_feeds` needs
    trace-0/        made at the end, from what went into the steps of one optimizer

At the end the trace that is audited takes the place of all this: the directory is a trace directory then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import TraceError
from dpaudit.instrument.index_log import IntArray
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script.feed import Feed
from dpaudit.instrument.script.feed_log import Event, FeedLog, code_of, numbers_of
from dpaudit.trace_file import HEADER, INDICES, PROGRAM
from dpaudit.trace_writer import TraceWriter, withhold

FEED, NUMBERING, SUBSETS = "feed.json", "numbering.npz", "subsets"
FEED_FORM, SUBSET_FORM = "dpaudit feed", "dpaudit subsets"
_MARKS = 1 << 14
"""Marks in a row after which they are written: no batch comes any more that would see to it."""
_UNNUMBERED = (Method.FINGERPRINT, Method.STREAM)


class SpoolError(RuntimeError):
    """The disk takes no more: no fault of a batch, and the end of the recording."""


class Spool:
    """The directory of one recording.

    Args:
      path: must not exist, or be an empty directory.

    Raises:
      TraceError: it cannot be made, or holds something.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()  # the program may change its directory
        self._logs: list[SpooledLog] = []
        try:
            path.mkdir(exist_ok=True)
            if any(path.iterdir()):
                raise TraceError(f"cannot write the trace {path}: it is not empty", "Give a new name.")
            write_json(path / PROGRAM, {"format": "dpaudit program", "version": 1})
        except OSError as error:
            raise TraceError(f"cannot write the trace {path}: {error.strerror or error}") from error

    def new_log(self, remember: bool = False) -> FeedLog:
        """Make the log of the next feed."""
        log = SpooledLog(self.path / f"feed-{len(self._logs)}", remember)
        self._logs.append(log)
        return log

    def close(self) -> str:
        """Write what still waits; give what is wrong with that, "" for nothing."""
        try:
            for log in self._logs:
                log.close()
        except SpoolError as error:
            return f"{error}; what had been written before was used"
        return ""

    def settle(self, trace: Path | None, withheld: str = "") -> None:
        """Let one of the traces made at the end take the place of everything else; None keeps it all.

        Args:
          trace: its directory.
          withheld: why no verdict can rest on it, which its readers must know too.

        Raises:
          TraceError: files cannot be moved.
        """
        if trace is None:
            return
        if withheld:
            withhold(trace, withheld)
        try:
            files = sorted(trace.iterdir(), key=lambda file: file.name == HEADER)
            for file in files:  # its header last: only then is the directory a trace
                os.replace(file, self.path / file.name)
            (self.path / PROGRAM).unlink()
            for directory in [*self.path.glob("feed-*"), *self.path.glob("trace-*")]:
                shutil.rmtree(directory, ignore_errors=True)
        except OSError as error:
            raise TraceError(f"cannot finish the trace {self.path}: {error.strerror or error}") from error

    def withdraw(self) -> None:
        """Remove what this process has written: the recording is that of others, in directories beside it."""
        (self.path / PROGRAM).unlink(missing_ok=True)
        for directory in self.path.glob("feed-*"):
            shutil.rmtree(directory, ignore_errors=True)


class SpooledLog(FeedLog):
    """Writes batches and events chunk by chunk, and keeps only sizes; a forked child writes nothing."""

    def __init__(self, path: Path, remember: bool) -> None:
        super().__init__(remember)
        self._path = path
        self._writer: TraceWriter | None = None
        self._subsets: TraceWriter | None = None
        self._known: dict[bytes, int] = {}
        self._marks = 0
        """Since the last batch."""
        self._process = os.getpid()
        self._lock = threading.Lock()  # a prefetcher fetches in a thread of its own

    def append(self, batch: Any) -> None:
        """Take one batch.

        Raises:
          NoRecordNumbersError: it holds no record numbers.
          SpoolError: it cannot be written.
        """
        numbers = numbers_of(batch, len(self.sizes))
        self._write(lambda writer: writer.add(numbers))
        self._marks = 0
        self.sizes.append(len(numbers))
        self.keep(numbers)

    def indices(self) -> IntArray:
        """Give all batches in one array, mapped, shape (draws,)."""
        self._write(lambda writer: writer.flush())
        file = self._path / "batches" / INDICES
        return np.memmap(file, "<i8", "r") if file.stat().st_size else np.zeros(0, np.int64)

    def mark(self, event: Event, number: int = 0) -> None:
        """Note what happened after the last batch."""
        self._write(lambda writer: writer.mark(code_of(event, number)))
        self._marks += 1
        if self._marks % _MARKS == 0:
            self._write(lambda writer: writer.flush())

    def subset(self, rows: npt.NDArray[np.int64] | None) -> int:
        """Keep the rows that a pass can reach, those of each subset once, before any batch of it."""
        if rows is None or os.getpid() != self._process:
            return 0
        digest = hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=16).digest()
        if digest not in self._known:
            with _on_disk():
                if self._subsets is None:
                    self._path.mkdir(exist_ok=True)
                    self._subsets = TraceWriter(self._path / SUBSETS, form=SUBSET_FORM)
                self._subsets.add(rows)
                self._subsets.flush()
            self._known[digest] = len(self._known) + 1
        return self._known[digest]

    def describe(self, feed: Feed) -> None:
        """Write what is known of a feed beside its batches, and how its rows are numbered."""
        if os.getpid() != self._process:
            return
        with _on_disk():
            first = not (self._path / FEED).exists()
            self._path.mkdir(exist_ok=True)
            if first and feed.method not in _UNNUMBERED:
                inside = feed.numbering()
                arrays = {"numbers": inside.numbers, "origins": inside.origins}
                told: dict[str, Any] = {name: value for name, value in arrays.items() if value is not None}
                np.savez(self._path / NUMBERING, num_records=np.int64(inside.num_records), **told)
            write_json(
                self._path / FEED,
                {
                    "method": feed.method.value,
                    "facts": asdict(feed.facts),
                    "unreadable": feed.unreadable,
                    "optimizers": [[key, one.optimizer, one.number] for key, one in feed.steps.items()],
                },
            )

    def close(self) -> None:
        """Write what still waits.

        Raises:
          SpoolError: it cannot be written.
        """
        for writer in (self._subsets, self._writer):
            if writer is not None:
                with _on_disk():
                    writer.close()

    def _write(self, action: Callable[[TraceWriter], None]) -> None:
        if os.getpid() != self._process:  # before the lock, which another thread may hold for ever
            return
        with self._lock, _on_disk():
            if self._writer is None:
                self._writer = TraceWriter(self._path / "batches", form=FEED_FORM)
            action(self._writer)


@contextlib.contextmanager
def _on_disk() -> Iterator[None]:
    """Tell a full disk from a wrong batch."""
    try:
        yield
    except TraceError as error:
        raise SpoolError(error.message) from error
    except OSError as error:
        raise SpoolError(f"cannot write the trace: {error.strerror or error}") from error


def write_json(path: Path, content: Any) -> None:
    """Write a file whole, or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    os.replace(temporary, path)
