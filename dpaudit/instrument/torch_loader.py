"""Watch a torch DataLoader: the same batches, order and randomness, and the records in each."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterDataPipe, MapDataPipe, default_collate, default_convert

from dpaudit.errors import DpauditError
from dpaudit.instrument.carried import (
    Carried,
    CarryingDataset,
    FingerprintingDataset,
    IndexDataset,
    SplittingCollate,
    WorkerInit,
    carried_whole,
)
from dpaudit.instrument.index_log import is_single_number
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recorder import Recorder


class Tap:
    """Where a watched loader reports what it delivers."""

    def __init__(self, recorder: Recorder, method: Method, direct: bool, inner: bool = False) -> None:
        self.recorder = recorder
        self.method = method
        self.direct = direct
        """Whether torch's own iterator delivers; else a subclass's `__iter__` does, from `pending`."""
        self.inner = inner
        """Whether this loader feeds another one, which delivers (accelerate's `base_dataloader`)."""
        self.pending: deque[Carried] = deque()
        self.sent: deque[Any] = deque()
        """Indices that torch's iterator has asked for and not yet got, for NEXT_INDEX."""

    def fetched(self, carried: Carried) -> None:
        """Take what torch's iterator has just given."""
        if is_single_number(carried.indices):  # batch_size=None: each record is delivered by itself
            carried.indices = [carried.indices]
        if self.direct:
            self.recorder.add(carried.indices, carried.certain)
        else:
            self.pending.append(carried)

    def delivered(self, batch: Any) -> None:
        """Take what the subclass's `__iter__` has just given: that very object, else the oldest."""
        while self.pending and any(carried.payload is batch for carried in self.pending):
            carried = self.pending.popleft()
            if carried.payload is batch:
                return self.recorder.add(carried.indices, carried.certain)
        if not self.pending:
            unknown = DpauditError(
                "this loader delivers batches that torch's iterator did not fetch for it",
                "Audit a plain DataLoader with the same data set, sampler and batch size, or a function "
                "batches(seed, steps).",
            )
            return self.recorder.failed(unknown)
        carried = self.pending.popleft()
        return self.recorder.add(carried.indices, carried.certain)


def watch_loader(loader: DataLoader[Any], recorder: Recorder, method: Method) -> Any:
    """Copy a DataLoader into one that reports each batch that it delivers.

    The copy is of a subclass of the loader's class and shares its data set, sampler, collate
    function and generator, so that iterating it draws what iterating the loader would have drawn.

    Args:
      loader: left as it is.
      recorder: receives every delivered batch.
      method: CARRIED, FINGERPRINT or NEXT_INDEX; INDEX_ONLY delivers None in place of each batch.
    """
    kind: Any = getattr(loader, "_dpaudit_kind", type(loader))  # a watched loader can be watched again
    watched = _twin(loader, _watched_class(kind))
    watched._iterator = None
    direct = kind.__iter__ is DataLoader.__iter__
    tap = Tap(recorder, method, direct)
    object.__setattr__(watched, "_dpaudit_tap", tap)
    inside = loader.__dict__.get("base_dataloader")
    if isinstance(inside, DataLoader):
        inner = feeding_loader(inside, recorder, method)
        inner._dpaudit_tap.pending = tap.pending
        object.__setattr__(watched, "base_dataloader", inner)
    return watched


def feeding_loader(loader: DataLoader[Any], recorder: Recorder, method: Method) -> Any:
    """Copy a DataLoader into one that keeps what it gives pending, until whom it feeds has `delivered` it."""
    kind: Any = getattr(loader, "_dpaudit_kind", type(loader))
    inner = _twin(loader, _watched_class(kind))
    inner._iterator = None
    object.__setattr__(inner, "_dpaudit_tap", Tap(recorder, method, direct=False, inner=True))
    return inner


def _twin(loader: Any, kind: type) -> Any:
    """Make a shallow copy of another class, without running any constructor of the user."""
    twin: Any = object.__new__(kind)
    twin.__dict__.update(loader.__dict__)
    return twin


def close(watched: Any, iterator: Any) -> None:
    """Stop the worker processes of a watched loader that is not read to its end."""
    if hasattr(iterator, "close"):  # a generator, which holds torch's iterator
        iterator.close()
    for reader in (iterator, watched._iterator):
        shut_down = getattr(reader, "_shutdown_workers", None)  # may be called twice
        if shut_down is not None:
            shut_down()
    watched._iterator = None


@functools.cache
def _watched_class(kind: type) -> type:
    return type(f"Watched{kind.__name__}", (_Watched, kind), {"__module__": __name__, "_dpaudit_kind": kind})


class _Watched:
    """Put before a DataLoader class; see `watch_loader`."""

    _dpaudit_tap: Tap

    def __iter__(self) -> Any:
        tap = self._dpaudit_tap
        if tap.inner:
            return super().__iter__()  # type: ignore[misc]
        tap.recorder.start_epoch()
        tap.pending.clear()
        batches = super().__iter__()  # type: ignore[misc]
        return batches if tap.direct else self._dpaudit_relay(batches)

    def _dpaudit_relay(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self._dpaudit_tap.delivered(batch)
            yield batch

    def _get_iterator(self) -> Any:
        tap = self._dpaudit_tap
        iterator = super(_Watched, stand_in(self, tap.method, tap.sent))._get_iterator()  # type: ignore[misc]
        kind: Any = type(iterator)
        iterator.__class__ = _tapped_class(kind, tap.method is Method.NEXT_INDEX)
        iterator._dpaudit_tap = tap
        return iterator


def stand_in(loader: Any, method: Method, sent: deque[Any] | None = None) -> Any:
    """Copy a loader for torch's iterator to be built from, with our data set and collate function.

    Args:
      loader: left as it is.
      method: how the records of a batch are to be told.
      sent: for NEXT_INDEX, receives the indices as they are sent out to be read.
    """
    inner = _twin(loader, type(loader))
    replaced: dict[str, Any] = {}
    match method:
        case Method.CARRIED | Method.FINGERPRINT:
            wrapper = CarryingDataset if method is Method.CARRIED else FingerprintingDataset
            replaced = {
                "dataset": wrapper(loader.dataset),
                "collate_fn": SplittingCollate(loader.collate_fn, not drops_nothing(loader.collate_fn)),
                "worker_init_fn": WorkerInit(loader.worker_init_fn) if loader.num_workers else None,
            }
        case Method.INDEX_ONLY:
            inner.multiprocessing_context = None
            replaced = {"dataset": IndexDataset(), "collate_fn": carried_whole, "num_workers": 0}
            replaced |= {"timeout": 0, "pin_memory": False, "persistent_workers": False}
        case Method.NEXT_INDEX:
            name = "sampler" if loader.batch_sampler is None else "batch_sampler"
            replaced = {name: _SentIndices(getattr(loader, name), deque() if sent is None else sent)}
    for name, value in replaced.items():
        object.__setattr__(inner, name, value)  # DataLoader forbids plain assignment
    return inner


class _SentIndices:
    """Iterates a sampler and keeps what it gave until the batch comes back; torch sends ahead."""

    def __init__(self, sampler: Any, sent: deque[Any]) -> None:
        self._sampler = sampler
        self._sent = sent

    def __iter__(self) -> Iterator[Any]:
        self._sent.clear()
        for indices in self._sampler:
            self._sent.append(indices)
            yield indices

    def __len__(self) -> int:
        return len(self._sampler)


@functools.cache
def _tapped_class(kind: type, by_next_index: bool) -> type:
    # A subclass, not a function stored on the iterator: that would be a reference cycle, and the
    # worker processes would outlive the last use of the iterator.
    next_data = _next_sent if by_next_index else _next_carried
    return type(kind.__name__, (kind,), {"_next_data": next_data, "__module__": __name__})


def _next_carried(self: Any) -> Any:
    carried = super(type(self), self)._next_data()
    self._dpaudit_tap.fetched(carried)
    return carried.payload


def _next_sent(self: Any) -> Any:
    batch = super(type(self), self)._next_data()
    self._dpaudit_tap.fetched(Carried(self._dpaudit_tap.sent.popleft(), batch))
    return batch


def is_pipe(dataset: Any) -> str:
    """Tell a torch DataPipe, which wrapping would break: "iter", "map" or ""."""
    if isinstance(dataset, IterDataPipe):
        return "iter"
    return "map" if isinstance(dataset, MapDataPipe) else ""


def drops_nothing(collate: Callable[..., Any] | None) -> bool:
    """Tell torch's own collate functions, also inside the one of Opacus that allows empty batches."""
    if type(collate).__name__ == "CollateFnWithEmpty":
        collate = getattr(collate, "wrapped_collator_fn", None)
    return collate is default_collate or collate is default_convert
