"""Tell the records of a collated batch by the content of its rows, where nothing else tells them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpaudit.instrument.delivered import batch_length
from dpaudit.instrument.fingerprint import fingerprint


class UnreadableBatchError(ValueError):
    """A batch whose records cannot be told apart."""


def row_marks(batch: Any) -> list[int]:
    """Hash each row of a batch: the same place of all its arrays and lists together.

    Holds for records that come unaltered; augmented at random, a record has another mark each time.

    Returns:
      One 63-bit mark for each row.

    Raises:
      UnreadableBatchError: the batch has no common first dimension, or rows without readable content.
    """
    length = batch_length(batch)
    if length is None:
        raise UnreadableBatchError(f"batches of type {type(batch).__name__} have no rows that could be told")
    if length == 0:
        return []
    columns: list[Any] = []
    _collect(batch, columns)
    digests = [hashlib.blake2b(digest_size=8) for _ in range(length)]
    for column in columns:
        _add(digests, column)
    return [int.from_bytes(digest.digest(), "little") >> 1 for digest in digests]


def _add(digests: list[Any], column: Any) -> None:
    try:
        if hasattr(column, "shape"):
            array = np.asarray(column.detach().cpu() if hasattr(column, "detach") else column)
            rows = np.ascontiguousarray(array).reshape(len(digests), -1)
            for digest, row in zip(digests, rows, strict=True):
                # The bytes of an array of objects are addresses; its strings have to be read.
                content = (
                    fingerprint(row.tolist()).to_bytes(8, "little")
                    if array.dtype.hasobject
                    else row.tobytes()
                )
                digest.update(content)
            return
        for digest, value in zip(digests, column, strict=True):
            digest.update(fingerprint(value).to_bytes(8, "little"))
    except (TypeError, ValueError, RuntimeError) as error:
        what = type(column).__name__
        raise UnreadableBatchError(f"rows of type {what} have no readable content") from error


def _collect(batch: Any, columns: list[Any]) -> None:
    if hasattr(batch, "shape"):
        columns.append(batch)
    elif isinstance(batch, Mapping):
        for value in batch.values():
            _collect(value, columns)
    elif isinstance(batch, (tuple, list)):
        if any(hasattr(value, "shape") or isinstance(value, Mapping) for value in batch):
            for value in batch:
                _collect(value, columns)
        else:
            columns.append(batch)
