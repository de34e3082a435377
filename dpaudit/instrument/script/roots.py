"""The data set inside nested Subsets, by which passes over the same records are put together."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from dpaudit.instrument.facts import length_of
from dpaudit.instrument.script.feed import IntArray


def trace_to_root(dataset: Any) -> tuple[Any, IntArray | None]:
    """Unwrap torch Subsets.

    Returns:
      The innermost data set, and its row for each row of the given one; None where they are the same.
    """
    data = sys.modules.get("torch.utils.data")
    rows: IntArray | None = None
    while data is not None and isinstance(dataset, data.Subset):
        inside = np.asarray(dataset.indices, np.int64).reshape(-1)
        rows = inside if rows is None else inside[rows]
        dataset = dataset.dataset
    return dataset, rows


def same_object(one: Any, other: Any) -> bool:
    """Tell whether two roots are one data set."""
    return one is other


def same_shape(one: Any, other: Any) -> bool:
    """Tell whether a data set may be another one made anew: of the same class and length."""
    length = length_of(one)
    return type(one) is type(other) and length is not None and length == length_of(other)
