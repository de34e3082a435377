"""A few records' content, by which ranks find out whether they read the same data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpaudit.instrument.facts import length_of
from dpaudit.instrument.fingerprint import fingerprint
from dpaudit.instrument.seeding import restored, seeded

_RECORDS = 16


def content_sample(dataset: Any) -> tuple[int, ...] | None:
    """Hash the length and some records of a map-style data set.

    Each record is read twice from the same seeds, so that augmentation by the global generators does
    no harm. Only for a program that has ended: reading may have effects on the data set.

    Returns:
      Its length and 63-bit marks; None where records cannot be read, or come different each time.
    """
    length = length_of(dataset)
    if not length:
        return None
    rows = np.unique(np.linspace(0, length - 1, _RECORDS).astype(np.int64)).tolist()
    try:
        with restored():
            once, again = ([_mark(dataset, row) for row in rows] for _ in range(2))
    except Exception:  # files closed or removed at the end of the program, records without content
        return None
    return (length, *once) if once == again else None


def _mark(dataset: Any, row: int) -> int:
    with seeded(row):
        return fingerprint(dataset[row])
