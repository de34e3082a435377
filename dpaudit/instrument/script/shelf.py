"""Where traces are put together at the end of a program: in memory, or in directories."""

from __future__ import annotations

from pathlib import Path

from dpaudit.instrument.methods import Method
from dpaudit.instrument.monitoring import LiveRecorder
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.result import Recording
from dpaudit.trace_writer import join_traces


class Shelf:
    """Makes a recorder for each trace.

    Args:
      place: a directory for the traces; None keeps them in memory.
    """

    def __init__(self, place: Path | None = None) -> None:
        self._place = place
        self._made = 0

    def recorder(self, method: Method) -> Recorder:
        """Give a new recorder; records that are told by content are numbered in memory, all at once."""
        if self._place is None or method is Method.FINGERPRINT:
            return Recorder()
        return LiveRecorder(stream=self._next(), tolerant=False)

    def keep(self, recorder: Recorder, recording: Recording) -> Path | None:
        """Finish a trace; give its directory, None if it is in memory."""
        if self._place is None:
            return None
        if isinstance(recorder, LiveRecorder):
            recorder.close(recording.trace.num_records)
        else:
            join_traces([recording.trace], self._next(), as_runs=False)
        return self._place / f"trace-{self._made - 1}"

    def _next(self) -> Path:
        assert self._place is not None
        self._made += 1
        return self._place / f"trace-{self._made - 1}"
