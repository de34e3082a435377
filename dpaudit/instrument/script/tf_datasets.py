"""What a tf.data pipeline says of itself: where its records come from, how many, how they are batched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.instrument.facts import LoaderFacts


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A data set as it is iterated."""

    root: Any
    """What its records come from."""
    facts: LoaderFacts
    problem: str = ""
    """Why its batches cannot be told; "" where they can."""
    may_alter: bool = False
    """Whether it has code that may give a record another content each time, and N is not known."""


def describe(dataset: Any, known: Any) -> Pipeline:
    """Read a pipeline off its data set objects, without iterating it.

    N is known where a plain chain of transformations leads down to the records below the innermost
    `batch` or `repeat`, and tf.data knows their number.

    Args:
      dataset: a tf.data.Dataset.
      known: pipelines by data set object, of those that are described by what made them.
    """
    records: Any = None
    batch: Any = None
    for node in _chain(dataset):
        if node in known:
            found: Pipeline = known[node]
            return found
        kind = type(node).__name__
        if "Unbatch" in kind:
            records = None
        elif "Batch" in kind:
            batch = batch or node
            records = node
        elif "Repeat" in kind:
            records = node
    size = None if batch is None or records is None else _number(records._inputs()[0].cardinality)
    if size is not None and size < 0:
        size = None
    leaf = [*_chain(dataset)][-1]
    facts = LoaderFacts(
        loader="tf.data.Dataset",
        dataset=type(leaf).__name__.strip("_"),
        num_records=size,
        batch_size=None if batch is None else _number(lambda: batch._batch_size),
        drop_last=None,
    )
    problem = "" if batch is not None or _has_batches(dataset.element_spec) else _UNBATCHED
    return Pipeline(leaf, facts, problem, size is None and any(map(_may_alter, _chain(dataset))))


_UNBATCHED = (
    "a tf.data pipeline without batch(): whether the first dimension of its elements counts records cannot be "
    "told. Batch it, or say the records: dpaudit.step(records)."
)


def _chain(dataset: Any) -> Iterator[Any]:
    """Walk from a data set to the source of its records; of several inputs, to that of the first."""
    while True:
        yield dataset
        inputs = dataset._inputs()
        if not inputs:
            return
        dataset = inputs[0]


def _number(read: Any) -> int | None:
    import tensorflow as tf

    try:
        with tf.init_scope():
            value = read()
            return int(np.asarray(value() if callable(value) else value))
    except Exception:  # made inside a graph; a size is only a help
        return None


def _has_batches(spec: Any) -> bool:
    """Tell whether elements are batches: their first dimension varies, or several tensors share it."""
    import tensorflow as tf

    shapes = [getattr(leaf, "shape", None) for leaf in tf.nest.flatten(spec)]
    if any(shape is None or shape.rank == 0 for shape in shapes):
        return False
    first = [shape[0] if shape.rank else None for shape in shapes]
    return None in first or (len({*first}) == 1 and len({shape.rank for shape in shapes}) > 1)


def _may_alter(node: Any) -> bool:
    """Tell whether a transformation draws random numbers or calls Python code."""
    if "Map" not in type(node).__name__:
        return False
    for function in node._functions():
        graph = function.function.graph.as_graph_def()
        kinds = {
            inside.op
            for nodes in (graph.node, *(one.node_def for one in graph.library.function))
            for inside in nodes
        }
        if "GeneratorDataset" in kinds:
            continue  # the source itself
        if kinds & {"PyFunc", "EagerPyFunc", "PyFuncStateless"} or any("Random" in kind for kind in kinds):
            return True
    return False
