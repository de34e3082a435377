"""All tests of a trace against Poisson sampling at one rate, with what naming needs later."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.sampling import kernels
from dpaudit.sampling.accumulate import TraceStatistics, gather
from dpaudit.sampling.composition import group_tests, row_test
from dpaudit.sampling.fingerprints import (
    Copies,
    find_copies,
    record_and_step_fingerprints,
    replay_test,
    twin_test,
)
from dpaudit.sampling.inclusions import inclusion_tests
from dpaudit.sampling.outcome import Outcome, Skipped
from dpaudit.sampling.overlaps import neighbouring_rows, outstanding_lag, overlap_tests
from dpaudit.sampling.pairs import pair_test
from dpaudit.sampling.power import Level
from dpaudit.sampling.rules import RULES
from dpaudit.sampling.sizes import size_tests
from dpaudit.trace import SamplingTrace

# Largest copy of a trace's draws that is made in memory: those of most trainings.
_MOST_BYTES = 1 << 29
_WITH_GROUPS = frozenset({"DPA122", "DPA123"})
# Each randomised test has its own numbers.
_SIZES, _INCLUSIONS, _ROWS, _GROUPS = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """The outcomes of all tests, and the material they were made from."""

    trace: SamplingTrace
    """What was tested: the first run only, where the runs repeat each other."""
    statistics: TraceStatistics
    copies: Copies
    outcomes: tuple[Outcome, ...]
    level: Level
    notes: tuple[str, ...]


def run_battery(trace: SamplingTrace, rate: float, significance: float, seed: int) -> Battery:
    """Run every test that the trace allows; those skipped are named in the notes."""
    notes: list[str] = []
    statistics, twins, copies = _look(trace)
    if copies.across_runs:
        notes.append(
            "Deterministic sampler: runs with different seeds gave the same batches, so the sample is not "
            "secret and no amplification by sampling holds. Only the first run was tested."
        )
        trace = trace.runs()[0]
        statistics, twins, copies = _look(trace)
    level = Level(significance, len(RULES) - (0 if trace.groups is not None else len(_WITH_GROUPS)))
    sets = _without_duplicates(trace, statistics) if statistics.duplicates else trace
    pairs, left_out = pair_test(sets, seed)
    results: list[Outcome | Skipped] = [
        *size_tests(statistics, rate, level, _own_seed(seed, statistics, _SIZES)),
        *inclusion_tests(statistics, rate, level, _own_seed(seed, statistics, _INCLUSIONS)),
        *overlap_tests(statistics, level),
        neighbouring_rows(trace, statistics, level),
        outstanding_lag(sets, statistics, level),
        duplicate_test(statistics),
        replay_test(copies, statistics.steps),
        twins,
        pairs,
        row_test(sets, level, _own_seed(seed, statistics, _ROWS)),
    ]
    if trace.groups is not None:
        results += group_tests(sets, trace.groups, level, _own_seed(seed, statistics, _GROUPS))
    skipped = [one for one in results if isinstance(one, Skipped)]
    notes += [left_out] if left_out else []
    notes += [f"Not tested ({one.rule}, {RULES[one.rule].title}): {one.reason}." for one in skipped]
    outcomes = sorted((one for one in results if isinstance(one, Outcome)), key=lambda one: one.rule)
    return Battery(
        trace=trace,
        statistics=statistics,
        copies=copies,
        outcomes=tuple(outcomes),
        level=level,
        notes=tuple(notes),
    )


def _look(trace: SamplingTrace) -> tuple[TraceStatistics, Outcome, Copies]:
    """Gather the statistics, and the copies among records and among steps."""
    statistics = gather(trace, block_length(trace))
    of_records, of_steps = record_and_step_fingerprints(trace)
    twins = twin_test(statistics, of_records)
    del of_records  # 8 bytes a record, before the steps are sorted
    return statistics, twins, find_copies(trace, statistics.sizes, of_steps)


def _own_seed(seed: int, statistics: TraceStatistics, test: int) -> int:
    """Seed a test's randomisation anew for each total of draws, on which every such test conditions.

    So traces that say little do not all get the same random part of their scores.
    """
    return (seed * 4 + test) * 0x9E3779B1 + statistics.distinct_draws * 0x85EBCA77 & (1 << 63) - 1


def block_length(trace: SamplingTrace) -> int:
    """Give half an epoch in steps, from the number of draws: the tests that use it condition on it."""
    if trace.draws == 0:
        return trace.steps
    half_epoch = round(0.5 * trace.num_records * trace.steps / trace.draws)
    return min(max(half_epoch, 2), max(trace.steps, 2))


def duplicate_test(statistics: TraceStatistics) -> Outcome:
    """Test that no record is twice in a step, which is certain under the null."""
    draws = statistics.draws
    return Outcome(
        rule="DPA106",
        statistic=statistics.duplicates,
        p_value=0.0 if statistics.duplicates else 1.0,
        effect=1000 * statistics.duplicates / draws if draws else 0.0,
        # Poisson number of duplicates: one is seen with probability 0.8 when ln 5 are expected.
        detectable_effect=1000 * 1.6094379124341003 / draws if draws else None,
    )


def _without_duplicates(trace: SamplingTrace, statistics: TraceStatistics) -> SamplingTrace:
    """Copy the trace with each record once a step: the other tests speak of sets of records."""
    kept = _scratch(statistics.distinct_draws, trace.indices.dtype)
    marks = np.full(trace.num_records, -1, np.int32)
    kernels.drop_duplicates(trace.indices, trace.offsets, statistics.sizes, marks, kept)
    offsets = np.concatenate(([0], np.cumsum(statistics.sizes, dtype=np.int64)))
    return dataclasses.replace(trace, indices=kept, offsets=offsets)


def _scratch(length: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Give room for a copy of the draws: on disk where it is large, so that memory stays flat."""
    if length * dtype.itemsize <= _MOST_BYTES:
        return np.empty(length, dtype)
    with tempfile.TemporaryFile() as file:  # the mapping outlives it
        return np.asarray(np.memmap(file, dtype, "w+", shape=(length,)))
