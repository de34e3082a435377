"""Carry record numbers through a DataLoader: what runs in place of its data set and collate function.

These objects travel to worker processes. They call the user's code with exactly the arguments that
torch's fetcher would give it, once each and in the same order, so that every random draw stays.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from dpaudit.instrument.delivered import kept_positions
from dpaudit.instrument.fingerprint import fingerprint
from dpaudit.instrument.importing import UserModules


class Carried:
    """A payload with the record numbers (or fingerprints) that it was made of."""

    __slots__ = ("certain", "indices", "payload")

    def __init__(self, indices: Any, payload: Any, certain: bool = True) -> None:
        self.indices = indices
        self.payload = payload
        self.certain = certain

    def pin_memory(self) -> Carried:
        """Pin the payload, as torch would have done with it."""
        from torch.utils.data._utils.pin_memory import pin_memory

        pin: Callable[[Any], Any] = pin_memory
        return Carried(self.indices, pin(self.payload), self.certain)


class _Portable:
    """Pickles after the user's modules, which a spawned worker could not import by itself."""

    def __reduce__(self) -> tuple[object, tuple[Any, ...]]:
        return _rebuilt, (UserModules(), type(self), self.__dict__)


def _rebuilt(_: UserModules, kind: type, state: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    made.__dict__.update(state)
    return made


class CarryingDataset(_Portable):
    """Gives each batch of items together with the indices it was asked for."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, index: Any) -> Carried:
        """Read one item; with `batch_size=None` the index may itself be a list."""
        return Carried(index, self.dataset[index])

    def __getitems__(self, indices: Any) -> Carried:
        """Read a batch of items as torch's fetcher does."""
        if not hasattr(indices, "__len__"):
            indices = list(indices)
        if hasattr(self.dataset, "__getitems__") and self.dataset.__getitems__:
            return Carried(indices, self.dataset.__getitems__(indices))
        dataset = self.dataset
        return Carried(indices, [dataset[index] for index in indices])


class IndexDataset:
    """Gives indices without reading any record."""

    def __getitem__(self, index: Any) -> Carried:
        """Give one index, or one list of them."""
        return Carried(index, None)

    def __getitems__(self, indices: Any) -> Carried:
        """Give a batch of indices."""
        return Carried(indices if hasattr(indices, "__len__") else list(indices), None)


class FingerprintingDataset(_Portable):
    """Gives each item of an iterable data set together with its fingerprint."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Iterator[Carried]:
        """Start the user's iterator now, not at the first item: starting it may draw randomness."""
        return map(_marked, iter(self.dataset))


UNREADABLE = -1
"""In place of the fingerprint of a record that has none: reading goes on; who takes the numbers refuses."""


def _marked(item: Any) -> Carried:
    try:
        return Carried(fingerprint(item), item)
    except TypeError:
        return Carried(UNREADABLE, item)


class SplittingCollate(_Portable):
    """Splits the record numbers off, then collates the items with the user's function."""

    def __init__(self, collate: Callable[[Any], Any], may_drop: bool) -> None:
        self.collate = collate
        self.may_drop = may_drop

    def __call__(self, fetched: Carried | list[Carried]) -> Carried:
        """Collate one fetched batch."""
        if isinstance(fetched, list):
            indices: Any = [item.indices for item in fetched]
            payload: Any = [item.payload for item in fetched]
        else:
            indices, payload = fetched.indices, fetched.payload
        batch = self.collate(payload)
        if not isinstance(payload, list):  # one record, or a batch that the data set made itself
            return Carried(indices, batch)
        if len(payload) != len(indices):  # the data set's __getitems__ gave more or fewer
            return Carried(indices, batch, certain=False)
        if not self.may_drop or not payload:
            return Carried(indices, batch)
        try:
            kept = kept_positions(payload, batch)
        except Exception:  # objects of the user that cannot be compared must not stop the loader
            kept = None
        if kept is None:
            return Carried(indices, batch, certain=False)
        if kept == range(len(payload)):
            return Carried(indices, batch)
        return Carried([indices[position] for position in kept], batch)


def carried_whole(fetched: Carried) -> Carried:
    """Stand in for the collate function where no record is read."""
    return fetched


class WorkerInit(_Portable):
    """Shows the user's own data set in `get_worker_info()`, then runs the user's `worker_init_fn`."""

    def __init__(self, user_init: Callable[[int], None] | None) -> None:
        self.user_init = user_init

    def __call__(self, worker_id: int) -> None:
        """Prepare one worker process."""
        info = sys.modules["torch.utils.data"].get_worker_info()
        # WorkerInfo forbids assignment; user code may look at, or change, info.dataset.
        object.__setattr__(info, "dataset", info.dataset.dataset)
        if self.user_init is not None:
            self.user_init(worker_id)
