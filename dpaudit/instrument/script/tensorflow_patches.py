"""The few places of TensorFlow that an audited program passes through: iterators, gradients, functions.

Inside a `tf.function` a batch is told by an operation beside the one that takes it from the iterator. It
draws no random numbers and nothing waits for what it computes, so that the function's own numbers stay.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

import tensorflow as tf
from tensorflow.python.autograph.operators import control_flow
from tensorflow.python.data.ops import dataset_ops, iterator_ops, multi_device_iterator_ops
from tensorflow.python.eager.polymorphic_function.concrete_function import ConcreteFunction
from tensorflow.python.framework import ops
from tensorflow.python.ops import gen_dataset_ops

from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.executions import GRADIENTS, REPLICAS, Executions, end, executions_of
from dpaudit.instrument.script.session import Session, Tap
from dpaudit.instrument.script.tf_datasets import Pipeline, describe
from dpaudit.instrument.script.wrapping import Wrappings

_UNNUMBERED = (
    "a tf.data pipeline of unknown size that draws random numbers or calls Python code in map(): it may give a "
    "record another content each time"
)


class TensorflowPatches:
    """Installed while a program runs, and taken back after it; nothing in user objects is touched."""

    def __init__(self, session: Session, _: ClaimLog) -> None:
        self._session = session
        self._executions = executions_of(session)
        self._wrappings = Wrappings()
        self._taps: dict[bytes, tuple[Tap, str]] = {}
        """Of each iterator, by what its handle is called at run time; and why its batches cannot be told."""
        self._loops = itertools.count()

    def install(self) -> None:
        """Patch TensorFlow."""
        wrap = self._wrappings.wrap
        wrap(iterator_ops.OwnedIterator, "_create_iterator", self._create)
        wrap(iterator_ops.OwnedIterator, "_next_internal", self._next)
        wrap(iterator_ops.OwnedIterator, "get_next_as_optional", self._next_as_optional)
        for name in ("get_next", "get_next_as_optional"):
            wrap(multi_device_iterator_ops.OwnedMultiDeviceIterator, name, self._of_replicas)
        for name in ("gradient", "jacobian"):
            wrap(tf.GradientTape, name, self._differentiate)
        wrap(ConcreteFunction, "_call_flat", self._call)
        loops = control_flow.for_loop_registry._registry
        original = loops[dataset_ops.DatasetV2]
        loops[dataset_ops.DatasetV2] = lambda dataset, extra_test, body, *rest: original(
            dataset, extra_test, self._loop_body(dataset, body), *rest
        )
        self._wrappings.then(lambda: loops.update({dataset_ops.DatasetV2: original}))

    def remove(self) -> None:
        """Take the patches back."""
        self._wrappings.remove()
        end(self._session)

    # Iterators

    def _create(self, original: Any, iterator: Any, dataset: Any) -> None:
        original(iterator, dataset)
        self._session.guarded(lambda: self._open(iterator, dataset))

    def _open(self, iterator: Any, dataset: Any) -> None:
        if not tf.executing_eagerly():
            return  # told by its name at run time, as of no known iterator
        tap, problem = self._tap(dataset)
        # A dropped iterator ends its pass.
        weakref.finalize(iterator, tap.dropped.set).atexit = False
        handle = gen_dataset_ops.iterator_to_string_handle(iterator._iterator_resource).numpy()
        self._taps[handle] = (tap, problem)
        iterator._dpaudit_handle = handle

    def _tap(self, dataset: Any) -> tuple[Tap, str]:
        executions = self._executions
        pipeline: Pipeline = executions.only or describe(dataset, executions.described)
        tap = self._session.open_tap_by_content(pipeline.root, pipeline.facts)
        if pipeline.may_alter:
            tap.feed.needs_size = _UNNUMBERED
        return tap, pipeline.problem

    def _next(self, original: Any, iterator: Any) -> Any:
        try:
            element = original(iterator)
        except tf.errors.OutOfRangeError:
            self._session.guarded(lambda: self._ended(iterator))
            raise
        self._session.guarded(lambda: self._taken(iterator, element))
        return element

    def _next_as_optional(self, original: Any, iterator: Any) -> Any:
        optional = original(iterator)
        if tf.executing_eagerly():
            if not optional.has_value():
                self._session.guarded(lambda: self._ended(iterator))
            else:
                self._session.guarded(lambda: self._taken(iterator, optional.get_value()))
        else:
            self._session.guarded(
                lambda: tf.cond(
                    optional.has_value(),
                    lambda: self._tell(_name(iterator), optional.get_value()),
                    tf.no_op,
                )
            )
        return optional

    def _ended(self, iterator: Any) -> None:
        handle = vars(iterator).get("_dpaudit_handle")
        if handle in self._taps:
            self._executions.ended(self._taps[handle][0])

    def _taken(self, iterator: Any, element: Any) -> None:
        if not tf.executing_eagerly():
            self._tell(_name(iterator), element)
            return
        handle = vars(iterator).get("_dpaudit_handle")
        if handle is None:
            handle = _name(iterator).numpy()
        if self._executions.depth or handle not in self._taps:
            return
        tap, problem = self._taps[handle]
        columns, odd = _columns(element)
        marks = problem or odd or self._executions.read(tap, [column.numpy() for column in columns])
        self._executions.taken(tap, marks)

    def _tell(self, name: Any, element: Any) -> Any:
        """Put an operation into the function under construction that tells of a batch at each run."""
        columns, odd = _columns(element)

        def told(handle: bytes, *arrays: Any) -> None:
            self._session.guarded(lambda: self._told(handle, odd, list(arrays)))

        return tf.numpy_function(told, [name, *([] if odd else columns)], [])

    def _told(self, handle: bytes, odd: str, arrays: list[Any]) -> None:
        known = self._taps.get(handle)
        if known is None:
            self._executions.taken_inside(self._unknown(), "an iterator that was made inside a tf.function")
            return
        tap, problem = known
        marks = problem or odd or self._executions.read(tap, arrays)
        self._executions.taken_inside(tap, marks)

    def _unknown(self) -> Tap:
        return self._taps.setdefault(b"", (self._tap(tf.data.Dataset.range(0))[0], ""))[0]

    def _loop_body(self, dataset: Any, body: Any) -> Any:
        """Tell of the batches of a loop over a data set inside a function, which has no iterator."""
        name = b"loop %d" % next(self._loops)
        opened = self._session.guarded(lambda: self._tap(dataset))
        if opened is None:
            return body
        self._taps[name] = opened

        def told(element: Any) -> Any:
            self._session.guarded(lambda: self._tell(name, element))
            return body(element)

        return told

    # Gradients and functions

    def _of_replicas(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        if tf.executing_eagerly():
            self._session.refuse("batches are spread over several replicas by tf.distribute")
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
        executions: Executions = self._executions
        abilities = getattr(function.graph, "_dpaudit_abilities", frozenset())
        if not tf.executing_eagerly():
            if abilities:
                self._session.guarded(lambda: able(*abilities))
            return original(function, *args, **kwargs)
        if executions.depth:
            return original(function, *args, **kwargs)
        executions.depth += 1
        try:
            return original(function, *args, **kwargs)
        finally:
            executions.depth -= 1
            self._session.guarded(lambda: executions.executed(abilities))


def able(*abilities: str) -> None:
    """Note what the function under construction can do, and all around it."""
    graph = ops.get_default_graph()
    while graph is not None:
        graph._dpaudit_abilities = getattr(graph, "_dpaudit_abilities", frozenset()).union(abilities)
        graph = getattr(graph, "outer_graph", None)


def _name(iterator: Any) -> Any:
    return gen_dataset_ops.iterator_to_string_handle(iterator._iterator_resource)


def _columns(element: Any) -> tuple[list[Any], str]:
    """Give the tensors of a batch, or why it has other things."""
    leaves = [leaf for leaf in tf.nest.flatten(element) if not isinstance(leaf, tf.experimental.Optional)]
    if any(not tf.is_tensor(leaf) or not hasattr(leaf, "op") and not hasattr(leaf, "numpy") for leaf in leaves):
        return [], "batches of tf.data that hold other things than tensors"
    odd = {type(leaf).__name__ for leaf in leaves if isinstance(leaf, (tf.RaggedTensor, tf.SparseTensor))}
    if odd:
        return [], f"batches of tf.data with rows of type {', '.join(sorted(odd))}"
    return leaves, ""
