"""Torch's iterators with a tap: each batch that one fetches is reported, and given on unchanged."""

from __future__ import annotations

import functools
import sys
import weakref
from collections import deque
from typing import Any

from dpaudit.instrument.carried import Carried
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script.rows import UnreadableBatchError, row_marks
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.taps import Tap


def attach(iterator: Any, session: Session, tap: Tap, method: Method, whole: bool) -> None:
    """Put a tap on an iterator that has just been made.

    Args:
      iterator: of a class below torch's `_BaseDataLoaderIter`.
      session: gets the reports.
      tap: of this iterator.
      method: how the record numbers of a batch are had.
      whole: whether records are told by the rows of whole batches (they were not carried).
    """
    if method is Method.NEXT_INDEX:
        # A resumed iterator has fast-forwarded: only what workers still read is to come.
        ahead = getattr(iterator, "_tasks_outstanding", 0)
        iterator._dpaudit_sent = deque(iterator.__dict__.get("_dpaudit_sent", ()), maxlen=None)
        while len(iterator._dpaudit_sent) > ahead:
            iterator._dpaudit_sent.popleft()
    kind: Any = type(iterator)
    iterator.__class__ = _tapped(kind, method, whole)
    iterator._dpaudit_session = session
    iterator._dpaudit_tap = tap
    # A dropped iterator ends its pass; workers that persist hold theirs, which then starts anew.
    weakref.finalize(iterator, tap.dropped.set).atexit = False


@functools.cache
def _tapped(kind: Any, method: Method, whole: bool) -> type:
    # A subclass, not a function stored on the iterator: that would be a reference cycle, and the
    # worker processes would outlive the last use of the iterator.
    unpack = _of_whole if whole else _of_sent if method is Method.NEXT_INDEX else _of_carried

    def next_data(self: Any) -> Any:
        session: Session = self._dpaudit_session
        try:
            data = kind._next_data(self)
        except StopIteration:
            session.guarded(lambda: session.ended(self._dpaudit_tap))
            raise
        if type(data) is Carried and not whole and method is not Method.NEXT_INDEX:
            session.guarded(lambda: session.fetched(self._dpaudit_tap, data))
            return data.payload
        session.guarded(lambda: unpack(self, session, data))
        return data

    def reset(self: Any, *args: Any, **kwargs: Any) -> None:
        session: Session = self._dpaudit_session
        session.guarded(lambda: session.ended(self._dpaudit_tap))
        if method is Method.NEXT_INDEX:
            self._dpaudit_sent.clear()
        kind._reset(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"_next_data": next_data, "_reset": reset, "__module__": __name__})


def _of_carried(iterator: Any, session: Session, data: Any) -> None:
    session.unfollowed(f"batches of {type(data).__name__} came back without their record numbers")


def _of_sent(iterator: Any, session: Session, data: Any) -> None:
    session.fetched(iterator._dpaudit_tap, Carried(iterator._dpaudit_sent.popleft(), data))


def _of_whole(iterator: Any, session: Session, data: Any) -> None:
    try:
        marks = row_marks(data)
    except UnreadableBatchError as error:
        session.unfollowed(str(error))
        return
    session.fetched(iterator._dpaudit_tap, Carried(marks, data))


def remember_sent(iterator: Any, indices: Any) -> None:
    """Keep what an iterator asks its workers for, until the batch comes back."""
    sent = iterator.__dict__.get("_dpaudit_sent")
    if sent is None:
        sent = iterator._dpaudit_sent = deque()
    sent.append(indices)


def is_torch_iterator(thing: Any) -> bool:
    """Tell an iterator of torch's own kind."""
    module = sys.modules.get("torch.utils.data.dataloader")
    return module is not None and isinstance(thing, module._BaseDataLoaderIter)
