"""`dpaudit.step()`: say where an optimizer step ends, for programs without a torch optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.step_names import BY_HAND, STATED

_running: list[Session] = []
"""The session of the program that runs, if one is audited."""


class _ByHand:
    """Stands for the optimizer of steps that the program marks itself."""


_BY_HAND = _ByHand()


@contextlib.contextmanager
def listening(session: Session) -> Iterator[None]:
    """Let `step` report to a session until the block ends."""
    _running.append(session)
    try:
        yield
    finally:
        _running.pop()


def step(records: Any = None, *, num_records: int | None = None) -> None:
    """Mark the end of an optimizer step; outside an audit this does nothing.

    For loops whose steps are not seen by themselves (updates by hand, NumPy). Batches of torch
    DataLoaders, tf.data and jax_privacy are followed; of other loaders say which records went into the
    step. Once a program marks its steps, others do not count.

    Args:
      records: whole numbers of the records in this step, shape (B,), empty for an empty batch; or a
        boolean mask of shape (N,). None: the batches of the loaders that are followed since the last step.
      num_records: N, where records are given.
    """
    if not _running:
        return
    session = _running[-1]
    session.guarded(lambda: _marked(session, records, num_records))


def _marked(session: Session, records: Any, num_records: int | None) -> None:
    session.settle()
    if records is not None:
        feed = next((feed for feed in session.feeds if feed.dataset is _BY_HAND), None)
        if feed is None:
            feed = session.new_feed(_BY_HAND, Method.STREAM, LoaderFacts(loader=STATED))
            feed.stated = True
            feed.start_pass(None)
        if num_records is not None:
            feed.know(LoaderFacts(loader=STATED, num_records=num_records))
        feed.deliver(feed.passes[0], records, True)
        session.latest = feed.passes[0]
        feed.use()
    session.stepped(_BY_HAND, BY_HAND)
