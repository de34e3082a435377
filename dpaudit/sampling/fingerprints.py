"""Tests for copies: a step equal to an earlier one, a record with the same steps as another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dpaudit.sampling import fingerprint_kernels
from dpaudit.sampling.accumulate import TraceStatistics, run_limits
from dpaudit.sampling.outcome import Outcome
from dpaudit.sampling.tails import log_choices
from dpaudit.trace import SamplingTrace

# A copy may be compared only where it has at most this probability among all pairs together.
CHANCE_OF_COPY = 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Copies:
    """Steps that repeat an earlier one of their run, and runs that repeat an earlier run."""

    step: npt.NDArray[np.int64]
    """Rising."""
    lag: npt.NDArray[np.int64]
    """How many steps before it the nearest equal step is."""
    across_runs: int
    """Steps that equal one of an earlier run."""
    comparable: int
    """Steps that could be compared: those from which a surely unique window starts."""


def record_and_step_fingerprints(
    trace: SamplingTrace,
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Give the fingerprint of each record's steps, shape (N,), and of each step's records, shape (T,)."""
    of_records, of_steps = np.zeros(trace.num_records, np.uint64), np.zeros(trace.steps, np.uint64)
    fingerprint_kernels.fingerprint_pass(trace.indices, trace.offsets, 0, of_records, of_steps)
    return of_records, of_steps


def find_copies(
    trace: SamplingTrace, sizes: npt.NDArray[np.int32], fingerprints: npt.NDArray[np.uint64]
) -> Copies:
    """Compare the window from each step with all earlier ones; `fingerprints` is used up.

    Given the sizes, batches are independent uniform subsets, so two windows of equal sizes agree
    with probability prod 1 / C(N, size), even if they overlap (the equalities form paths, each
    of which costs its factor). Windows reach at most `CHANCE_OF_COPY` over all pairs of steps.
    """
    limits = run_limits(trace)
    _widen(trace, sizes, fingerprints, limits)
    comparable = int(np.count_nonzero(fingerprints))
    nothing = np.zeros(0, np.int64)
    # Sorted in place, to save memory where there is nothing to find; else made again.
    fingerprints.sort()
    if not ((fingerprints[1:] == fingerprints[:-1]) & (fingerprints[1:] != 0)).any():
        return Copies(nothing, nothing, 0, comparable)
    _, fingerprints = record_and_step_fingerprints(trace)
    _widen(trace, sizes, fingerprints, limits)
    order = np.argsort(fingerprints, kind="stable")
    ordered = fingerprints[order]
    equal = (ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)
    later, earlier = order[1:][equal], order[:-1][equal]
    if not _same(trace, int(later[0]), int(earlier[0])):
        return Copies(nothing, nothing, 0, comparable)
    same_run = np.searchsorted(limits, later, "right") == np.searchsorted(limits, earlier, "right")
    step, lag = later[same_run], (later - earlier)[same_run]
    rising = np.argsort(step)
    return Copies(step[rising], lag[rising], int((~same_run).sum()), comparable)


def _widen(
    trace: SamplingTrace,
    sizes: npt.NDArray[np.int32],
    fingerprints: npt.NDArray[np.uint64],
    limits: npt.NDArray[np.int64],
) -> None:
    needed = -math.log(CHANCE_OF_COPY) + 2 * math.log(max(trace.steps, 2)) - math.log(2)
    for first, last in pairwise(limits.tolist()):
        fingerprint_kernels.window_fingerprints(fingerprints, sizes, first, last, trace.num_records, needed)


def _same(trace: SamplingTrace, one: int, other: int) -> bool:
    return bool(np.array_equal(np.sort(trace.batch(one)), np.sort(trace.batch(other))))


def replay_test(copies: Copies, steps: int) -> Outcome:
    """Test that no window equals an earlier one of its run (Markov's inequality on the number)."""
    return Outcome(
        rule="DPA107",
        statistic=len(copies.step),
        p_value=CHANCE_OF_COPY if len(copies.step) else 1.0,
        effect=len(copies.step) / steps,
        detectable_effect=1 / steps if copies.comparable > 1 else None,
    )


def twin_test(statistics: TraceStatistics, fingerprints: npt.NDArray[np.uint64]) -> Outcome:
    """Test that no two records took part in exactly the same steps; `fingerprints` is used up."""
    records, steps = statistics.num_records, statistics.steps
    needed = -math.log(CHANCE_OF_COPY) + 2 * math.log(max(records, 2)) - math.log(2)
    # log C(T, c) rises up to c = T / 2 and falls again: enough is an interval [least, T - least].
    least = next((c for c in range(steps // 2 + 1) if log_choices(steps, c) >= needed), steps + 1)
    fingerprints[(statistics.inclusions < least) | (statistics.inclusions > steps - least)] = 0
    fingerprints.sort()
    equal = (fingerprints[1:] == fingerprints[:-1]) & (fingerprints[1:] != 0)
    twins = int(equal.sum())
    # No record by record check here: the chance that any of N^2 / 2 pairs of 64-bit sums collides is added.
    collision = records * (records - 1) / 2 / 2.0**64
    return Outcome(
        rule="DPA118",
        statistic=twins,
        p_value=min(1.0, CHANCE_OF_COPY + collision) if twins else 1.0,
        effect=twins / records,
        detectable_effect=1 / records if least <= steps else None,
    )
