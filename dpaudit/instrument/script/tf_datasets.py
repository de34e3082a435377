"""What a tf.data pipeline says of itself: where its records come from, how many, how they are batched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpaudit.instrument.facts import LoaderFacts

_UNBATCHED = (
    "Whether the first dimension of the elements of a tf.data pipeline without batch() counts records cannot "
    "be told. Batch it, give from_generator an output_signature, or say the records: dpaudit.step(records)."
)
LOADERS = DATASET, ARRAYS, SINGLE = "tf.data.Dataset", "Keras", "train_on_batch"
"""What stands for a loader in what is known of a feed."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A data set as it is iterated."""

    root: Any
    """What its records come from."""
    facts: LoaderFacts
    problem: str = ""
    """Why its batches cannot be told; "" where they can."""
    length: int | None = None
    """Batches after which it starts anew by itself."""


def describe(dataset: Any, known: Mapping[Any, Pipeline]) -> Pipeline:
    """Read a pipeline off its data set objects, without iterating it.

    N is known where a plain chain of transformations leads down to the records below the innermost
    `batch` or `repeat`, and tf.data knows their number.

    Args:
      dataset: a tf.data.Dataset.
      known: pipelines by data set object, of those that are described by what made them.
    """
    records: Any = None
    batch: Any = None
    leaf = dataset
    for leaf in _chain(dataset):
        if leaf in known:
            return known[leaf]
        kind = type(leaf).__name__
        if "Unbatch" in kind:
            records = None
        elif "Batch" in kind:
            batch, records = batch or leaf, leaf
        elif "Repeat" in kind:
            records = leaf
    size = None if batch is None or records is None else _number(records._inputs()[0].cardinality)
    facts = LoaderFacts(
        loader=DATASET,
        dataset=type(leaf).__name__.strip("_"),
        num_records=size if size is not None and size >= 0 else None,
        batch_size=None if batch is None else _number(lambda: batch._batch_size),
    )
    batched = batch is not None or _has_batches(dataset.element_spec)
    return Pipeline(leaf, facts, "" if batched else _UNBATCHED)


def _chain(dataset: Any) -> Iterator[Any]:
    """Walk from a data set to the source of its records; of several inputs, to that of the first."""
    while True:
        yield dataset
        inputs = dataset._inputs()
        if not inputs:
            return
        dataset = inputs[0]


def _number(read: Callable[[], Any]) -> int | None:
    try:
        return int(np.asarray(read()))
    except Exception:  # not known outside the graph that it is made in; a size is only a help
        return None


def _has_batches(spec: Any) -> bool:
    """Tell whether elements are batches: their first dimension varies, or several tensors share it."""
    import tensorflow as tf

    shapes: list[Any] = [getattr(leaf, "shape", None) for leaf in tf.nest.flatten(spec)]
    if any(shape is None or not shape.rank for shape in shapes):
        return False
    first = {shape[0] for shape in shapes}
    return first == {None} or (len(first) == 1 and len({shape.rank for shape in shapes}) > 1)
