"""Data of a canary run: features and classes, as arrays."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError


@dataclass(frozen=True, slots=True, eq=False)
class LabelledData:
    """Records with one class each.

    Raises:
      ValueError: features and labels do not fit, or there are fewer than two classes.
    """

    features: npt.NDArray[np.float32]
    """Shape (records, ...)."""
    labels: npt.NDArray[np.int64]
    """Shape (records,), from 0."""

    def __post_init__(self) -> None:
        if len(self.features) != len(self.labels) or self.labels.ndim != 1:
            raise ValueError(f"features {self.features.shape} and labels {self.labels.shape} do not fit")
        if len(self.labels) == 0 or self.labels.min() < 0 or self.labels.max() < 1:
            raise ValueError("expected at least two classes, numbered from 0")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1


def load_data(name: str) -> LabelledData:
    """Load "digits" (scikit-learn's 1,797 handwritten digits of 8 by 8 pixels) or an .npz file.

    Args:
      name: "digits", or a file with arrays `features` (records, ...) and `labels` (records,).

    Raises:
      DpauditError: the file is missing or malformed, or scikit-learn is not there.
    """
    if name == "digits":
        return _digits()
    path = Path(name)
    if path.suffix != ".npz":
        raise DpauditError(f"unknown data {name!r}", 'Give "digits", or an .npz with features and labels.')
    try:
        with np.load(path, allow_pickle=False) as file:
            return LabelledData(file["features"].astype(np.float32), file["labels"].astype(np.int64))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DpauditError(f"cannot read {path}: {error}", "It needs arrays features and labels.") from error


@lru_cache(maxsize=1)
def _digits() -> LabelledData:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DpauditError(
            "the digits come with scikit-learn, which is not installed", "pip install 'dpaudit[demo]'"
        ) from error
    features, labels = load_digits(return_X_y=True)
    return LabelledData((features / 16).astype(np.float32), labels.astype(np.int64))
