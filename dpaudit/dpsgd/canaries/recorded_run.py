"""RecordedRun: what one run with canaries released, and how to keep it in a file."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedRun:
    """One training run with canaries; m gradient canaries, T steps."""

    value: npt.NDArray[np.float32]
    """Released sums at the canaries' coordinates, in claimed clip norms, shape (T, m)."""
    participated: npt.NDArray[np.bool_]
    """Shape (T, m)."""
    included: npt.NDArray[np.bool_]
    """Shape (m,)."""
    tossed: npt.NDArray[np.bool_]
    """Whether a coin decided on the canary, shape (m,); the others only watch the noise."""
    tensor: npt.NDArray[np.int64]
    """Index into `tensors`, shape (m,)."""
    tensors: npt.NDArray[np.str_]
    """Names of the parameter tensors that were watched."""
    unwatched: npt.NDArray[np.str_]
    """Names of trained tensors in which nothing could be watched."""
    indices: npt.NDArray[np.int64]
    """Record numbers of all batches, one after the other."""
    offsets: npt.NDArray[np.int64]
    """Row limits of the batches, shape (T + 1,)."""
    num_records: int
    """Of the training set, canaries included."""
    residuals: npt.NDArray[np.float64]
    """Release less what the claim gives, along the ordinary records' clipped sum, shape (T,); nan: none."""
    clipped_most: float
    """Largest contribution of a canary to a sum without noise, in claimed clip norms; nan: not measured."""
    input_included: npt.NDArray[np.bool_]
    """Of the input canaries."""
    input_score: npt.NDArray[np.float64]
    """How much the loss of each input canary fell."""
    input_kind: npt.NDArray[np.str_]
    accuracy: float
    """On the ordinary records, after training; nan: unknown."""
    seconds: float

    @property
    def steps(self) -> int:
        """Number of steps T."""
        return len(self.value)

    def to_bytes(self) -> bytes:
        """Give the content of the file that `load` reads."""
        content = io.BytesIO()
        arrays = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(content, allow_pickle=False, **arrays)
        return content.getvalue()

    @classmethod
    def load(cls, path: Path) -> RecordedRun:
        """Read a run that `to_bytes` gave.

        Raises:
          OSError: the file cannot be read.
          ValueError: it is not such a file, or not all of one.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                content: dict[str, Any] = {field.name: file[field.name] for field in fields(cls)}
        except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is no recorded run: {error}") from error
        for name, kind in (
            ("num_records", int),
            ("clipped_most", float),
            ("accuracy", float),
            ("seconds", float),
        ):
            content[name] = kind(content[name])
        return cls(**content)
