"""Compiled training of one small model: softmax regression by DP-SGD, clipped record by record."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: Ways to draw batches; a shuffled batch size follows as a number.
POISSON, SHUFFLE = 0, 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def clipped_sum(rows: Any, labels: Any, weights: Any, clip_norm: Any, total: Any) -> None:
    """Set `total` to the sum of clipped gradients of the cross-entropy of softmax(rows @ weights).

    The gradient of one record is the outer product of its features and of probabilities less the label,
    so its norm is the product of theirs, exactly.

    Args:
      rows: features (batch, d), of the same floating dtype as all that follow.
      labels: int64 (batch,).
      weights: (d, classes).
      clip_norm: C.
      total: (d, classes), changed in place.
    """
    errors = np.dot(rows, weights)
    classes = errors.shape[1]
    for place in range(len(rows)):
        row = errors[place]
        largest = row[0]
        for one in range(1, classes):
            largest = max(largest, row[one])
        mass = row[0] * 0
        for one in range(classes):
            row[one] = np.exp(row[one] - largest)
            mass += row[one]
        square = mass * 0
        for one in range(classes):
            row[one] = row[one] / mass
            if one == labels[place]:
                row[one] -= 1
            square += row[one] * row[one]
        length = mass * 0
        for column in range(rows.shape[1]):
            length += rows[place, column] * rows[place, column]
        norm = np.sqrt(length * square)
        if norm > clip_norm:
            for one in range(classes):
                row[one] *= clip_norm / norm
    np.dot(rows.T, errors, total)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def poisson_batch(rng: Any, records: int, rate: float, batch: Any) -> int:
    """Draw each record with probability `rate`, by the geometric gaps between them.

    Returns:
      Size of the batch, whose records now lead `batch`, int64 (records,) or longer.
    """
    if rate == 1:
        batch[:records] = np.arange(records)
        return records
    size, record, scale = 0, -1, np.log1p(-rate)
    while True:
        gap = np.log1p(-rng.random()) / scale
        if gap >= records:  # beyond what an integer may hold, for tiny rates
            return size
        record += 1 + int(gap)
        if record >= records:
            return size
        batch[size] = record
        size += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def shuffle(rng: Any, order: Any) -> None:
    """Permute uniformly, in place (Fisher and Yates)."""
    for last in range(len(order) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        order[last], order[other] = order[other], order[last]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def train(
    rng: Any, features: Any, labels: Any, weights: Any, scheme: int, rate: float, batch_size: int, steps: int,
    clip_norm: Any, noise: Any, step_size: Any,
) -> None:  # fmt: skip
    """Train in place.

    Args:
      rng: a NumPy generator, advanced.
      features: (records, d) of this model's data set.
      labels: int64 (records,).
      weights: (d, classes), changed in place.
      scheme: POISSON or SHUFFLE.
      rate: of Poisson sampling.
      batch_size: of a shuffled epoch, whose last batch may be smaller.
      steps: updates.
      clip_norm: C.
      noise: standard deviation of the noise on the sum.
      step_size: learning rate over the expected batch size.
    """
    records = len(labels)
    batch, order, used = np.empty(records, np.int64), np.arange(records), records
    total = np.empty_like(weights)
    for _ in range(steps):
        if scheme == POISSON:
            size = poisson_batch(rng, records, rate, batch)
        else:
            if used >= records:
                shuffle(rng, order)
                used = 0
            size = min(batch_size, records - used)
            batch[:size] = order[used : used + size]
            used += size
        if size == records:
            clipped_sum(features, labels, weights, clip_norm, total)
        else:
            chosen = batch[:size]
            clipped_sum(features[chosen], labels[chosen], weights, clip_norm, total)
        for row in range(weights.shape[0]):
            for one in range(weights.shape[1]):
                weights[row, one] -= step_size * (total[row, one] + noise * rng.standard_normal())
