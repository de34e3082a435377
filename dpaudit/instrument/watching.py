"""`watch(loader)`: iterate a loader as before, in a notebook or loop, and take the trace afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument import kinds
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.result import Labels, Recording, finish
from dpaudit.instrument.sources import Source, open_source
from dpaudit.trace import SamplingTrace


class Watch:
    """What a watched loader has delivered so far."""

    def __init__(
        self, source: Source, num_records: int | None, labels: Labels | None, recorder: Recorder | None
    ) -> None:
        self.recorder = Recorder() if recorder is None else recorder
        self.recorder.opened(source, num_records)
        self._source = source
        self._num_records = num_records
        self._labels = labels

    def trace(self) -> SamplingTrace:
        """Give the trace so far."""
        return self.recording().trace

    def recording(self) -> Recording:
        """Give the trace so far with its method and notes.

        Raises:
          DpauditError: the wrapper has not been iterated.
        """
        if self.recorder.steps == 0:
            raise DpauditError(
                "the watched loader has not been iterated",
                "Watch the very loader that the training loop iterates: make_private, accelerate and "
                "trainers build a new one from what they are given.",
            )
        return finish(self.recorder, self._source, stated=self._num_records, labels=self._labels, seed=None)


def watch(
    loader: Any,
    *,
    num_records: int | None = None,
    labels: Labels | None = None,
    method: Method | None = None,
    recorder: Recorder | None = None,
) -> Any:
    """Wrap a loader so that iterating it leaves a trace.

    The wrapper gives the same batches in the same order, draws the same random numbers, and for a
    DataLoader is of a subclass of its class with the same attributes. Records are read once, by the
    user's own data set. Each delivered batch counts as one optimizer step.

    Args:
      loader: a torch DataLoader, a BatchSampler, or an iterable of lists of record numbers.
      num_records: N; None takes it from the data set.
      labels: of each row of the data set, shape (rows,).
      method: CARRIED, NEXT_INDEX or FINGERPRINT; None chooses.
      recorder: what takes the batches; None keeps them in memory.

    Returns:
      The wrapper, with `.trace()` (SamplingTrace so far) and `.recording()` (with method and notes).

    Raises:
      TargetError: not a loader, or one that cannot be watched.
    """
    if not kinds.is_loader(loader):
        raise TargetError(
            f"{type(loader).__name__} is not a loader", "A function is recorded by dpaudit.record."
        )
    if kinds.is_torch_loader(loader):
        from dpaudit.instrument.torch_source import watch_torch_loader

        source, attach = watch_torch_loader(loader, method)
        of_loader = Watch(source, num_records, labels, recorder)
        return attach(of_loader.recorder, trace=of_loader.trace, recording=of_loader.recording)
    source = open_source(loader, seed=0, method=method or Method.STREAM)
    return WatchedStream(loader, Watch(source, num_records, labels, recorder))


class WatchedStream:
    """An iterable of record numbers that keeps what it gave; everything else is as in the original."""

    def __init__(self, stream: Any, watch: Watch) -> None:
        self._stream = stream
        self._watch = watch
        self.trace = watch.trace
        self.recording = watch.recording

    def __iter__(self) -> Iterator[Any]:
        """Iterate the original, and record each batch as it is handed over."""
        self._watch.recorder.start_epoch()
        for batch in self._stream:
            self._watch.recorder.add(batch)
            yield batch

    def __len__(self) -> int:
        """Give the length of the original, if it has one."""
        return len(self._stream)

    def __getattr__(self, name: str) -> Any:
        """Give any other attribute of the original."""
        return getattr(self._stream, name)
