"""Follow jax_privacy: the batches that its strategies select, and the noise that ends a step."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax_privacy import batch_selection, clipping, noise_addition
from jax_privacy.matrix_factorization import streaming_matrix

from dpaudit.instrument.carried import Carried
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.jax_reports import listen, with_counts, with_reports
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.taps import Handover, Tap
from dpaudit.instrument.script.wrapping import Wrappings

_LAGS = 64
"""Steps over which noise is looked at: strategies that correlate it do so from one step to the next."""
_CORRELATED = (
    "The noise of jax_privacy's matrix_factorization_privatizer is correlated between steps or changes with "
    "them: what runs cannot be weighed, for epsilons here are those of independent noise."
)


@dataclass(frozen=True, slots=True)
class Numbered:
    """Stands for a data set of which only record numbers are known."""

    num_records: int


class JaxPrivacyBatches:
    """Installed once the program has imported jax_privacy, and taken back after it."""

    def __init__(self, session: Session, _: ClaimLog) -> None:
        self._session = session
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove
        self._data: dict[int, Numbered] = {}

    def install(self) -> None:
        """Patch the strategies, and what makes noise."""
        listen(self._session)
        wrappings, strategy = self._wrappings, batch_selection.BatchSelectionStrategy
        wrappings.wrap_below(strategy, "batch_iterator", self._iterate)
        wrappings.replace(strategy, "__init_subclass__", classmethod(self._on_new_class))
        wrappings.wrap(noise_addition, "gaussian_privatizer", self._independent)
        wrappings.wrap(noise_addition, "matrix_factorization_privatizer", self._maybe_correlated)
        wrappings.wrap(clipping, "clipped_fun", self._clipped)

    def _on_new_class(self, kind: Any, /, **options: Any) -> None:
        super(batch_selection.BatchSelectionStrategy, kind).__init_subclass__(**options)
        if self._session.recording and "batch_iterator" in vars(kind):
            self._wrappings.wrap(kind, "batch_iterator", self._iterate)

    def _iterate(self, original: Any, strategy: Any, *args: Any, **kwargs: Any) -> Any:
        batches = original(strategy, *args, **kwargs)
        count = kwargs.get("num_examples", args[0] if args else None)
        tap = self._session.guarded(lambda: self._tap(strategy, count))
        return batches if tap is None else Followed(batches, self._session, tap)

    def _tap(self, strategy: Any, count: Any) -> Tap | None:
        name = type(strategy).__name__
        if not isinstance(count, (int, np.integer)):
            self._session.unfollowed(f"{name} was not asked for batches of a number of records")
            return None
        data = self._data.setdefault(int(count), Numbered(int(count)))
        facts = LoaderFacts(loader=name, num_records=int(count), sampler=name, sample_rate=_rate(strategy))
        return Tap(self._session.feed_of(data, Method.STREAM, facts), None)

    def _independent(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        return self._noisy(original(*args, **kwargs))

    def _maybe_correlated(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        matrix = kwargs["noising_matrix"] if "noising_matrix" in kwargs else args[0]
        if not self._session.guarded(lambda: _is_independent(matrix)):
            self._session.unjudgeable = _CORRELATED
        return self._noisy(made)

    def _noisy(self, made: Any) -> Any:
        return self._session.guarded(lambda: with_reports(self._session, made)) or made

    def _clipped(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        batched = kwargs.get("batch_argnums", 0)
        first = batched if isinstance(batched, int) else batched[0]
        return self._session.guarded(lambda: with_counts(self._session, made, first)) or made


class Followed:
    """Batches of a strategy on their way to the program, each reported and given on unchanged."""

    def __init__(self, batches: Any, session: Session, tap: Tap) -> None:
        self._batches = batches
        self._session = session
        self._tap = tap
        # An iterator that is dropped ends its pass.
        weakref.finalize(self, tap.dropped.set).atexit = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        session, tap = self._session, self._tap
        # What the batches before went into comes first; batches of strategies inside this one are its own.
        session.guarded(session.settle)
        session.handovers.append(Handover())
        try:
            batch = next(self._batches)
        except StopIteration:
            session.guarded(lambda: session.ended(tap))
            raise
        finally:
            session.handovers.pop()
        session.guarded(lambda: session.fetched(tap, Carried(_records(batch), batch)))
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)


def _records(batch: Any) -> Any:
    """Give the record numbers of a batch; -1 is jax_privacy's sign for a place that is filled up."""
    numbers = np.asarray(batch)
    return numbers[numbers >= 0] if numbers.dtype.kind == "i" and numbers.ndim == 1 else batch


def _rate(strategy: Any) -> float | None:
    """Give the rate at which a strategy draws each record in the long run, where it is plain."""
    if type(strategy) is not batch_selection.CyclicPoissonSampling:
        return None
    return float(strategy.sampling_prob) / int(strategy.cycle_length)


def _is_independent(matrix: Any) -> bool:
    """Tell whether noise that a matrix makes is a fresh draw of the same scale at each of the first steps."""
    with jax.ensure_compile_time_eval():
        if isinstance(matrix, streaming_matrix.StreamingMatrix):
            matrix = matrix.materialize(_LAGS)
        rows = np.asarray(matrix)
    return bool(np.array_equal(rows, rows[0, 0] * np.eye(*rows.shape, dtype=rows.dtype)))
