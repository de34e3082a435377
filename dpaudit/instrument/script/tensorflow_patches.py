"""The places of TensorFlow that an audited program passes through: iterators, gradients, functions.

Inside a `tf.function` a batch is told by an operation beside the one that takes it from the iterator. It
draws no random numbers and nothing uses what it gives, so that the function computes the same.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.data.ops import iterator_ops
from tensorflow.python.distribute import input_lib
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_dataset_ops

from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.executions import GRADIENTS, LOOPS, REPLICAS, Taken, end, executions_of
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.taps import Tap
from dpaudit.instrument.script.tf_datasets import describe
from dpaudit.instrument.script.wrapping import Wrappings, family

_ABILITIES = "_dpaudit_abilities"


class TensorflowPatches:
    """Installed while a program runs, and taken back after it; nothing in user objects is touched."""

    def __init__(self, session: Session, _: ClaimLog) -> None:
        self._session = session
        self._executions = executions_of(session)
        self._wrappings = Wrappings()
        self._taps: dict[bytes, tuple[Tap, str]] = {}
        """Of each iterator, by what its handle is called at run time; and why its batches cannot be told."""
        self._given_batches: set[bytes] = set()

    def install(self) -> None:
        """Patch TensorFlow; another version may lack what is patched, and is not followed then."""
        try:
            self._wrap()
        except (AttributeError, KeyError) as error:
            self._wrappings.remove()
            self._session.seen[f"TensorFlow {tf.__version__} cannot be followed, for it lacks {error}"] = 0

    def _wrap(self) -> None:
        wrap = self._wrappings.wrap
        wrap(iterator_ops.OwnedIterator, "_create_iterator", self._create)
        wrap(iterator_ops.OwnedIterator, "_next_internal", self._next)
        wrap(iterator_ops.OwnedIterator, "get_next_as_optional", self._next_as_optional)
        for kind in family(input_lib.DistributedIteratorBase):
            for name in {"get_next", "get_next_as_optional"} & {*vars(kind)}:
                wrap(kind, name, self._of_replicas)
        for name in ("gradient", "jacobian"):
            wrap(tf.GradientTape, name, self._differentiate)
        wrap(ConcreteFunction, "_call_flat", self._call)

    def remove(self) -> None:
        """Take the patches back."""
        self._wrappings.remove()
        end(self._session)

    # Iterators

    def _create(self, original: Any, iterator: Any, dataset: Any) -> None:
        original(iterator, dataset)
        if tf.executing_eagerly() and not _in_foreign_thread():
            self._session.guarded(lambda: self._open(iterator, dataset))

    def _open(self, iterator: Any, dataset: Any) -> None:
        name = _name(iterator).numpy()
        if self._executions.is_given:
            self._given_batches.add(name)
            return
        pipeline = describe(dataset, self._executions.described)
        tap = self._session.open_tap_by_content(pipeline.root, pipeline.facts)
        tap.length = pipeline.length
        weakref.finalize(iterator, tap.dropped.set).atexit = False  # a dropped iterator ends its pass
        iterator._dpaudit_tap = tap, pipeline.problem
        self._taps[name] = tap, pipeline.problem

    def _next(self, original: Any, iterator: Any) -> Any:
        try:
            element = original(iterator)
        except tf.errors.OutOfRangeError:
            self._session.guarded(lambda: self._ended(iterator))
            raise
        self._session.guarded(lambda: self._given(iterator, element))
        return element

    def _next_as_optional(self, original: Any, iterator: Any) -> Any:
        optional = original(iterator)
        if not tf.executing_eagerly():
            self._session.guarded(lambda: able(LOOPS))
        elif not optional.has_value():
            self._session.guarded(lambda: self._ended(iterator))
        else:
            self._session.guarded(lambda: self._given(iterator, optional.get_value()))
        return optional

    def _ended(self, iterator: Any) -> None:
        known = vars(iterator).get("_dpaudit_tap")
        if known is not None:
            self._session.ended(known[0])

    def _given(self, iterator: Any, element: Any) -> None:
        columns, odd = _columns(element)
        if not tf.executing_eagerly():
            tf.numpy_function(self._told, [_name(iterator), tf.constant(odd), *columns], [])
            return
        known = vars(iterator).get("_dpaudit_tap")
        if known is None or self._executions.depth or _in_foreign_thread():
            return
        tap, problem = known
        arrays = [column.numpy() for column in columns]
        self._executions.taken(self._executions.read(tap, arrays, problem or odd))

    def _told(self, handle: bytes, odd: bytes, *columns: Any) -> None:
        """Take a batch at a run of a function; what fails here must not fail there."""
        if handle in self._given_batches:
            return
        try:
            tap, problem = self._taps.get(handle, (None, ""))
            batch = Taken(None, [])
            if tap is not None:
                batch = self._executions.read(tap, list(columns), problem or odd.decode())
        except Exception as error:
            batch = Taken(None, [], error=error)
        self._executions.taken_inside(batch)

    # Gradients and functions

    def _of_replicas(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if tf.executing_eagerly():
            self._executions.spread()
        else:
            self._session.guarded(lambda: able(REPLICAS))
        return original(*args, **kwargs)

    def _differentiate(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if not tf.executing_eagerly():
            self._session.guarded(lambda: able(GRADIENTS))
        elif not self._executions.depth:
            self._session.guarded(self._executions.gradients)
        return original(*args, **kwargs)

    def _call(self, original: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        executions = self._executions
        abilities: frozenset[str] = getattr(function.graph, _ABILITIES, frozenset())
        if not tf.executing_eagerly():
            self._session.guarded(lambda: able(*abilities))
            return original(function, *args, **kwargs)
        if executions.depth or _in_foreign_thread():
            return original(function, *args, **kwargs)
        executions.depth += 1
        try:
            done = original(function, *args, **kwargs)
        except Exception as error:
            at_end = isinstance(error, tf.errors.OutOfRangeError)
            self._session.guarded(lambda: executions.failed(at_end))
            raise
        finally:
            executions.depth -= 1
        self._session.guarded(lambda: executions.executed(abilities, lambda: _arrays(done)))
        return done


def able(*abilities: str) -> None:
    """Note what the function under construction can do, and all around it."""
    graph = ops.get_default_graph()
    while graph is not None:
        setattr(graph, _ABILITIES, getattr(graph, _ABILITIES, frozenset()).union(abilities))
        graph = getattr(graph, "outer_graph", None)


def _in_foreign_thread() -> bool:
    """Tell Python code that TensorFlow runs on threads of its own: a generator that a data set reads."""
    return isinstance(threading.current_thread(), threading._DummyThread)


def _name(iterator: Any) -> Any:
    return gen_dataset_ops.iterator_to_string_handle(iterator._iterator_resource)


def _arrays(given: Any) -> list[Any]:
    leaves = tf.nest.flatten(given)
    return [leaf.numpy() for leaf in leaves if isinstance(leaf, tf.Tensor) and leaf.dtype.is_numpy_compatible]


def _columns(element: Any) -> tuple[list[Any], str]:
    """Give the tensors of a batch, or why it cannot be read."""
    leaves = [leaf for leaf in tf.nest.flatten(element) if not isinstance(leaf, tf.experimental.Optional)]
    odd = {type(leaf).__name__ for leaf in leaves if not isinstance(leaf, tf.Tensor)}
    if not odd:
        return leaves, ""
    kinds = ", ".join(sorted(odd))
    return [], (
        f"Batches of tf.data that hold {kinds} cannot be followed: give dense tensors of one shape, or say "
        "the records: dpaudit.step(records)."
    )
