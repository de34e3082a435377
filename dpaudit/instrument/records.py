"""Which record each row of a data set is, seen through Subset and ConcatDataset."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RecordNumbers:
    """Row of a data set -> record number, rising with the row in the innermost data set.

    Two rows have the same number when they are the same row of the same innermost data set: a
    Subset that lists a row twice, or a data set concatenated with itself, holds a record twice.
    """

    num_records: int
    """N: distinct records."""
    numbers: IntArray | None
    """Shape (rows,), each in 0..num_records - 1; None: row i is record i."""
    origins: IntArray | None = None
    """Row of each record in the innermost data sets, rising, shape (N,); None: record i is row i."""

    @property
    def rows(self) -> int:
        """Length of the data set."""
        return self.num_records if self.numbers is None else len(self.numbers)

    def of(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
        """Translate rows into record numbers."""
        return rows if self.numbers is None else self.numbers[rows]


def number_records(dataset: Any) -> RecordNumbers:
    """Number the records of a map-style data set.

    Rows of torch's Subset and ConcatDataset, nested to any depth, are traced to the innermost data
    sets and numbered densely, in their order there, so that N counts the records that the loader
    can reach. Any other data set is taken as it is: row i is record i.

    Raises:
      TypeError: the data set has no length.
    """
    rows = _innermost_rows(dataset, {})
    if rows is None:
        return RecordNumbers(len(dataset), None)
    distinct, numbers = np.unique(rows, return_inverse=True)
    numbers = numbers.astype(np.int64, copy=False)
    same = len(distinct) == len(rows) and bool((numbers == np.arange(len(rows))).all())
    return RecordNumbers(len(distinct), None if same else numbers, distinct)


def _innermost_rows(dataset: Any, bases: dict[int, tuple[int, int]]) -> IntArray | None:
    """Give each row an id, unique over all innermost data sets; None where the data set is one itself."""
    data = sys.modules.get("torch.utils.data")
    if data is None:
        return None
    if isinstance(dataset, data.Subset):
        return _rows_of(dataset.dataset, bases)[np.asarray(dataset.indices, dtype=np.int64).reshape(-1)]
    if isinstance(dataset, data.ConcatDataset):
        return np.concatenate([_rows_of(part, bases) for part in dataset.datasets])
    return None


def _rows_of(dataset: Any, bases: dict[int, tuple[int, int]]) -> IntArray:
    rows = _innermost_rows(dataset, bases)
    if rows is not None:
        return rows
    if id(dataset) not in bases:
        first = sum(length for _, length in bases.values())
        bases[id(dataset)] = (first, len(dataset))
    first, length = bases[id(dataset)]
    return np.arange(first, first + length, dtype=np.int64)
