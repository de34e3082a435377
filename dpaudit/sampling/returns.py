"""When records return: overlap of steps by distance, and places in one epoch against the next.

Sums over all records, for figures; the tests of dependence are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dpaudit.sampling.accumulate import run_limits
from dpaudit.trace import SamplingTrace

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Draws that are enough for a figure; of a longer trace every k-th record is looked at.
_MOST_DRAWS = 1_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Returns:
    """Pairs of participations of one record, seen and expected given the batch sizes.

    Expected is what batches of these sizes have in common when each is drawn at random, on its own.
    """

    seen: Floats
    expected: Floats


def overlap_by_lag(trace: SamplingTrace, longest: int) -> Returns:
    """Count the records that steps 1, ..., `longest` apart have in common; arrays of shape (longest,).

    Pairs of steps of different runs do not count. A record that is twice in a step counts twice.
    """
    records, steps, num_records, limit = _participations(trace, longest)
    seen = np.zeros(longest + 1)
    for first, second in _pairs(records, steps, longest):
        seen += np.bincount(second - first, minlength=longest + 1)
    sizes = np.bincount(steps, minlength=limit).astype(np.float64)
    spectrum = np.fft.rfft(sizes, 2 * len(sizes))
    products = np.fft.irfft(spectrum * spectrum.conj(), 2 * len(sizes))[: longest + 1]
    return Returns(seen=seen[1:], expected=np.maximum(products[1:], 0.0) / num_records)


def places_in_epochs(trace: SamplingTrace, epoch: int, parts: int) -> Returns:
    """Compare where records come in an epoch and in the next one; arrays of shape (parts, parts).

    Entry [i, j] counts the records that were in part i of an epoch and in part j of the next. Only
    whole epochs of `epoch` steps count, from the first step of each run on.
    """
    records, steps, num_records, limit = _participations(trace, 2 * epoch)
    whole = _whole_epochs(trace, epoch, limit)
    seen = np.zeros((parts, parts))
    for first, second in _pairs(records, steps, 2 * epoch - 1):
        left, right = whole[first], whole[second]
        kept = (left >= 0) & (right == left + 1)
        place = _part(first[kept], whole, epoch, parts) * parts + _part(second[kept], whole, epoch, parts)
        seen += np.bincount(place, minlength=parts * parts).reshape(parts, parts)
    sizes = np.zeros((int(whole.max(initial=-1)) + 2, parts))
    inside = whole[steps] >= 0
    np.add.at(sizes, (whole[steps[inside]], _part(steps[inside], whole, epoch, parts)), 1.0)
    follows = np.flatnonzero(np.diff(_first_steps(whole)) == epoch)
    return Returns(seen=seen, expected=sizes[follows].T @ sizes[follows + 1] / num_records)


def _participations(trace: SamplingTrace, gap: int) -> tuple[Integers, Integers, int, int]:
    """Sort the draws by record, then step; runs are set `gap` idle steps apart.

    Returns:
      Records and steps of the draws, shape (draws,); the number of records looked at; the number of
      steps, idle ones included.
    """
    stride = max(1, -(-trace.draws // _MOST_DRAWS))
    shift = np.zeros(trace.steps, np.int64)
    shift[run_limits(trace)[1:-1]] = gap
    step_of = np.arange(trace.steps) + np.cumsum(shift)
    steps = np.repeat(step_of, trace.batch_sizes)
    indices = trace.indices.astype(np.int64)
    if stride > 1:
        kept = indices % stride == 0
        indices, steps = indices[kept], steps[kept]
    order = np.argsort(indices, kind="stable")
    return indices[order], steps[order], -(-trace.num_records // stride), int(step_of[-1]) + 1


def _pairs(records: Integers, steps: Integers, longest: int) -> Iterator[tuple[Integers, Integers]]:
    """Give every pair of steps of one record that are 1 to `longest` apart, piece by piece."""
    first = np.arange(len(steps))
    for ahead in range(1, len(steps)):
        first = first[first + ahead < len(steps)]
        second = first + ahead
        near = (records[first] == records[second]) & (steps[second] - steps[first] <= longest)
        first, second = first[near], second[near]
        if len(first) == 0:
            return
        apart = steps[second] > steps[first]
        yield steps[first[apart]], steps[second[apart]]


def _whole_epochs(trace: SamplingTrace, epoch: int, limit: int) -> Integers:
    """Number the epochs of the steps: -1 outside whole epochs, shape (steps, idle ones included,)."""
    whole = np.full(limit, -1, np.int64)
    number, place, limits = 0, 0, run_limits(trace).tolist()
    for first, last in pairwise(limits):
        count = (last - first) // epoch
        whole[place : place + count * epoch] = number + np.repeat(np.arange(count), epoch)
        number += count
        place += last - first + 2 * epoch
    return whole


def _first_steps(whole: Integers) -> Integers:
    return np.searchsorted(np.maximum.accumulate(whole), np.arange(int(whole.max(initial=-1)) + 1))


def _part(steps: Integers, whole: Integers, epoch: int, parts: int) -> Integers:
    """Give the part of its epoch that a step is in, 0 to `parts` - 1."""
    return (steps - _first_steps(whole)[whole[steps]]) * parts // epoch
