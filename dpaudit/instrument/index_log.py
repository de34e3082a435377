"""A growing list of batches of whole numbers, kept as arrays."""

from __future__ import annotations

import itertools
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError

IntArray = npt.NDArray[np.integer[Any]]
NO_INDEX = (
    "Each batch must be a list, tuple or array of whole record numbers. For a loader of data without "
    "numbers, write a function batches(seed, steps) that yields them."
)
_MASK_HINT = (
    "Yield numpy.flatnonzero(mask) instead; or say how many records there are (--num-records, or num_records "
    "beside the loader): masks of that length are read."
)
_CHUNK = 256
"""Lists that wait to become one array together: that spares most of the time per batch."""


class NoRecordNumbersError(DpauditError):
    """A batch that does not hold record numbers, usually because it holds the records themselves."""


class IndexLog:
    """Batches of indices in the order of delivery; an empty batch counts."""

    def __init__(self) -> None:
        self.sizes = array("q")
        """Length of each batch."""
        self.masks: dict[int, int] = {}
        """Lengths of the batches that were boolean masks, each with the first step that had it."""
        self._chunks: list[IntArray] = []
        self._waiting: list[list[Any]] = []

    def append(self, batch: Any) -> None:
        """Take one batch, and copy it: loaders may fill one buffer again and again.

        A boolean mask stands for the positions at which it is true.

        Raises:
          NoRecordNumbersError: not whole numbers. After the first, lists are checked in groups.
        """
        if type(batch) is list and self.sizes and not (batch and isinstance(batch[0], (bool, np.bool_))):
            self._waiting.append(batch.copy())
            self.sizes.append(len(batch))
            if len(self._waiting) == _CHUNK:
                self._settle()
            return
        self._settle()
        step = len(self.sizes)
        indices = one_dimensional(batch, step)
        if indices.dtype.kind == "b":
            self.masks.setdefault(len(indices), step)
            indices = np.flatnonzero(indices)
        self._chunks.append(indices)
        self.sizes.append(len(indices))

    def indices(self) -> IntArray:
        """Give all batches in one array, shape (draws,).

        Raises:
          NoRecordNumbersError: a batch does not hold whole numbers.
        """
        self._settle()
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int64)

    def _settle(self) -> None:
        if not self._waiting:
            return
        first = len(self.sizes) - len(self._waiting)
        try:
            self._chunks.append(as_indices(list(itertools.chain.from_iterable(self._waiting)), first))
        except NoRecordNumbersError:  # find which batch it is
            self._chunks += [as_indices(batch, first + i) for i, batch in enumerate(self._waiting)]
        self._waiting = []


def as_indices(batch: Any, step: int) -> IntArray:
    """Read a batch of whole numbers: list, tuple, range, set, array or tensor.

    Args:
      batch: shape (B,); may be empty.
      step: its number, for the message.

    Raises:
      NoRecordNumbersError: not one-dimensional whole numbers.
    """
    array = one_dimensional(batch, step)
    if array.dtype.kind == "b":
        raise mask_of_unknown_meaning(step)
    return array


def mask_of_unknown_meaning(step: int, why: str = "") -> NoRecordNumbersError:
    """Make the refusal of a boolean mask."""
    return NoRecordNumbersError(f"step {step} is a mask of booleans{why}", _MASK_HINT)


def one_dimensional(batch: Any, step: int) -> npt.NDArray[Any]:
    """Read whole numbers or booleans."""
    try:
        if hasattr(batch, "detach"):
            batch = batch.detach().cpu().numpy()
        # A copy: loaders may fill one buffer again and again.
        array = np.array(list(batch) if isinstance(batch, (set, frozenset)) else batch)
    except Exception as error:
        raise NoRecordNumbersError(
            f"step {step} gives no record numbers: {_shown(batch)}", NO_INDEX
        ) from error
    if array.size == 0 and array.ndim <= 1 and array.dtype.kind not in "iu":
        return np.zeros(0, np.int64)
    if array.ndim == 1 and array.dtype.kind in "iub":
        return array
    column = hasattr(batch, "shape") and array.dtype.kind in "iu" and array.ndim == 2 and 1 in array.shape
    hint = "Record numbers have one dimension: yield it with .flatten()." if column else NO_INDEX
    raise NoRecordNumbersError(f"step {step} gives no record numbers: {_shown(batch)}", hint)


def is_single_number(item: Any) -> bool:
    """Tell one whole number (Python, NumPy or a tensor without dimensions) from a batch of them."""
    if isinstance(item, bool):
        return False
    if isinstance(item, (int, np.integer)):
        return True
    return getattr(item, "shape", None) == () and "int" in str(getattr(item, "dtype", ""))


def _shown(batch: Any) -> str:
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return f"{type(batch).__name__} of {getattr(batch, 'dtype', 'unknown')}, shape {tuple(shape)}"
    if isinstance(batch, (list, tuple)) and batch:
        return f"{type(batch).__name__} of {type(batch[0]).__name__}"
    return type(batch).__name__
