"""Hand delivered batches on as they come: to a trace directory, to a test that runs along, or both."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.index_log import IndexLog, IntArray, mask_of_unknown_meaning
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.records import RecordNumbers
from dpaudit.instrument.sources import Source
from dpaudit.trace import SamplingTrace
from dpaudit.trace_file import open_trace
from dpaudit.trace_writer import TraceWriter

_LOG = logging.getLogger("dpaudit")
_NO_NUMBERS = (
    "Records of this loader are told apart by their content, so that equal records look like repeats: record "
    "it with dpaudit.watch(loader) and audit the trace."
)


class Listener(Protocol):
    """What is told of every delivered batch."""

    def update(self, batch: IntArray) -> object:
        """Take the record numbers of one step; what this raises reaches the training loop."""

    def start_pass(self) -> None:
        """Learn that the loader is iterated anew."""

    def start_run(self) -> None:
        """Learn that the next batch is the first of a new run."""


MakeListener = Callable[[int, LoaderFacts], Listener]
"""Called with N and what the loader says, once both are known."""


class LiveRecorder(Recorder):
    """Keeps no batch in memory.

    Args:
      stream: path of a new trace directory; None keeps no trace.
      listen: makes who listens.
      tolerant: a failure of the recording is reported once and ends the recording, not the training.
    """

    translated = True

    def __init__(
        self,
        *,
        stream: str | os.PathLike[str] | None = None,
        listen: MakeListener | None = None,
        tolerant: bool = True,
    ) -> None:
        super().__init__()
        self._stream, self._listen, self._tolerant = stream, listen, tolerant
        self._writer: TraceWriter | None = None
        self._listener: Listener | None = None
        self._known: int | None = None
        self._rows: RecordNumbers | None = None
        self._steps = self._passes = self._run_start = 0
        self._masks: dict[int, int] = {}
        self.failure: Exception | None = None
        """Why the recording ended early; None while it goes on."""

    def opened(self, source: Source, num_records: int | None) -> None:
        """Learn what is read; the trace directory and the listener are made now.

        Raises:
          TargetError: records have no numbers, or a listener needs N and it is not known.
          TraceError: the directory cannot be made.
        """
        if source.method is Method.FINGERPRINT:
            raise TargetError("this loader cannot be followed as it runs", _NO_NUMBERS)
        self._rows = source.rows
        if self._writer is not None or self._listener is not None:  # a further run
            return
        self._known = num_records or (
            source.facts.num_records if source.rows is None else source.rows.num_records
        )
        if self._listen is not None:
            if self._known is None:
                raise TargetError("the number of records is unknown", "Give it: num_records=.")
            self._listener = self._listen(self._known, source.facts)
        if self._stream is not None:
            self._writer = TraceWriter(self._stream, num_records=self._known)
            # At the end of the program at the latest; not at that of a fork, where it does nothing.
            weakref.finalize(self, _finish, self._writer)

    @property
    def steps(self) -> int:
        """Batches recorded so far, over all runs."""
        return self._steps

    @property
    def steps_of_run(self) -> int:
        """Batches recorded in the current run."""
        return self._steps - self._run_start

    @property
    def epochs(self) -> int:
        """Passes over the loader so far, over all runs."""
        return self._passes

    @property
    def masks(self) -> dict[int, int]:
        """Lengths of the batches that were boolean masks, each with the first step that had it."""
        return self._masks

    @property
    def batch_sizes(self) -> npt.NDArray[np.int64]:
        """Size of each batch, shape (steps,)."""
        return self._stored().batch_sizes

    def start_run(self) -> None:
        """Mark that the next batch is the first of a new run."""
        self._run_start = self._steps
        for one in (self._writer, self._listener):
            if one is not None:
                one.start_run()

    def start_epoch(self) -> None:
        """Mark that the loader is iterated anew."""
        self._passes += 1
        if self._writer is not None:
            self._writer.start_epoch()
        if self._listener is not None:
            self._listener.start_pass()

    def add(self, batch: Any, certain: bool = True) -> None:
        """Hand one delivered batch on.

        Raises:
          DpauditError: it does not hold record numbers, or cannot be written, and failures are not
            tolerated; or what the listener raises.
        """
        if self.failure is not None:
            return
        try:
            numbers = self._numbers(batch)
            if self._writer is not None:
                self._writer.add(numbers)
        except Exception as error:
            self.failed(error)
            return
        self._steps += 1
        self.uncertain += not certain
        if self._listener is not None:
            self._listener.update(numbers)

    def failed(self, error: Exception) -> None:
        """End the recording, and say so once; or raise the error, where failures are not tolerated."""
        if not self._tolerant:
            raise error
        if self.failure is None:
            self.failure = error
            hint = getattr(error, "hint", "")
            _LOG.warning("dpaudit stopped recording at batch %d: %s. %s", self._steps, error, hint)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Say that the recording ended early, if it did."""
        if self.failure is None:
            return ()
        return (
            f"The recording failed after {self._steps} batches, while the program went on: {self.failure}.",
        )

    def indices(self) -> IntArray:
        """Give what was recorded, mapped from the trace directory."""
        return self._stored().indices

    def trace(
        self,
        indices: IntArray,
        num_records: int,
        groups: IntArray | None = None,
        numbered_by_appearance: bool = False,
    ) -> SamplingTrace:
        """Give the trace of what was recorded, mapped; `indices` are in it already."""
        return replace(self._stored(), num_records=num_records, groups=groups, remarks=())

    def close(self, num_records: int | None = None) -> None:
        """Finish the trace directory; N, where it is known only now."""
        if self._writer is not None:
            self._writer.close(num_records)

    def _numbers(self, batch: Any) -> IntArray:
        """Read the record numbers of a batch; a boolean mask of length N stands for its true places."""
        log = IndexLog()
        log.append(batch)
        for length in log.masks:
            if length != self._known or self._rows is not None:
                raise mask_of_unknown_meaning(self._steps)
            self._masks.setdefault(length, self._steps)
        numbers = log.indices()
        if self._rows is None:
            return numbers
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= self._rows.rows):
            raise DpauditError(f"batch {self._steps} has a row outside 0..{self._rows.rows - 1}")
        return self._rows.of(numbers)

    def _stored(self) -> SamplingTrace:
        if self._writer is None:
            raise DpauditError(
                "no trace was kept: the batches were only tested as they came",
                'Keep one on disk: dpaudit.watch(loader, ..., stream="trace").',
            )
        self._writer.flush()
        return open_trace(self._writer.path)


def _finish(writer: TraceWriter) -> None:
    """Close a trace directory when the program ends, or nobody holds the loader any more."""
    try:
        writer.close()
    except DpauditError as error:
        _LOG.warning("dpaudit could not finish the recording: %s", error)
