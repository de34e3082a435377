"""Collect the record numbers of delivered batches into a SamplingTrace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.index_log import IndexLog, IntArray
from dpaudit.trace import SamplingTrace

if TYPE_CHECKING:
    from dpaudit.instrument.sources import Source


class Recorder:
    """Grows by one row for each delivered batch; an empty batch is a row."""

    translated = False
    """Whether the numbers kept are those of records already, not of rows of the data set."""

    def __init__(self) -> None:
        self._log = IndexLog()
        self._epochs: list[int] = []
        self._runs: list[int] = []
        self.uncertain = 0
        """Batches from which the collate function took records that could not be named."""

    @property
    def steps(self) -> int:
        """Batches recorded so far, over all runs."""
        return len(self._log.sizes)

    @property
    def steps_of_run(self) -> int:
        """Batches recorded in the current run."""
        return self.steps - (self._runs[-1] if self._runs else 0)

    @property
    def epochs(self) -> int:
        """Passes over the loader so far, over all runs."""
        return len(self._epochs)

    def opened(self, source: Source, num_records: int | None) -> None:
        """Learn what is read, before its first batch.

        Args:
          source: of the batches to come.
          num_records: N as the user states it.
        """

    def start_run(self) -> None:
        """Mark that the next batch is the first of a new run."""
        self._runs.append(self.steps)

    def start_epoch(self) -> None:
        """Mark that the loader is iterated anew; passes that delivered nothing leave no mark."""
        if not self._epochs or self._epochs[-1] != self.steps:
            self._epochs.append(self.steps)

    def add(self, batch: Any, certain: bool = True) -> None:
        """Take one delivered batch of indices.

        Args:
          batch: whole numbers, shape (B,); list, tuple, range, set, array or tensor; or a boolean mask.
          certain: False where records may be in it that were not delivered.

        Raises:
          DpauditError: it holds something else than whole numbers.
        """
        self._log.append(batch)
        self.uncertain += not certain

    def failed(self, error: Exception) -> None:
        """Refuse to go on.

        Raises:
          Exception: that very one.
        """
        raise error

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a report must say of the recording."""
        return ()

    def indices(self) -> IntArray:
        """Give what was recorded in one array, shape (draws,)."""
        return self._log.indices()

    @property
    def masks(self) -> dict[int, int]:
        """Lengths of the batches that were boolean masks, each with the first step that had it."""
        return self._log.masks

    @property
    def batch_sizes(self) -> npt.NDArray[np.int64]:
        """Size of each batch, shape (steps,)."""
        return np.array(self._log.sizes, np.int64)

    def pass_starts(self) -> IntArray:
        """Give the place of the first draw of each pass among all draws, shape (passes,)."""
        offsets = np.concatenate(([0], np.cumsum(self.batch_sizes)))
        return offsets[[start for start in self._epochs if start < self.steps]]

    def trace(
        self,
        indices: IntArray,
        num_records: int,
        groups: IntArray | None = None,
        numbered_by_appearance: bool = False,
    ) -> SamplingTrace:
        """Give the trace of what was recorded.

        Args:
          indices: `indices()`, translated into record numbers.
          num_records: N.
          groups: label of each record, shape (num_records,).
          numbered_by_appearance: whether the numbers say nothing of the order of the data set.
        """
        epochs = [start for start in self._epochs if start < self.steps]
        return SamplingTrace(
            indices=indices.astype(np.int32 if num_records <= np.iinfo(np.int32).max else np.int64),
            offsets=np.concatenate(([0], np.cumsum(self._log.sizes, dtype=np.int64))),
            num_records=num_records,
            epoch_starts=np.array(epochs, np.int64) if epochs else None,
            run_starts=np.array(self._runs, np.int64) if len(self._runs) > 1 else None,
            groups=groups,
            numbered_by_appearance=numbered_by_appearance,
        )

    def check_range(self, indices: IntArray, limit: int) -> None:
        """Refuse an empty recording, and numbers outside 0..limit - 1.

        Raises:
          DpauditError: nothing was recorded, no batch held a record, or a number is out of range.
        """
        if self.steps == 0:
            raise DpauditError("the loader is empty: it gave no batch", "Does the data set hold records?")
        if len(indices) == 0:
            raise DpauditError(f"none of the {self.steps} batches of the loader holds a record")
        if indices.min() >= 0 and indices.max() < limit:
            return
        wrong = np.flatnonzero((indices < 0) | (indices >= limit))
        step = int(np.searchsorted(np.cumsum(self.batch_sizes), wrong[0], side="right"))
        number = indices[wrong[0]]
        if number < 0:
            raise DpauditError(
                f"step {step} has the negative record number {number}",
                "Record numbers run from 0 to N - 1; leave padding out.",
            )
        raise DpauditError(
            f"step {step} has record number {number}, outside 0..{limit - 1}",
            "N must be the size of the data set that the record numbers speak of (--num-records).",
        )
