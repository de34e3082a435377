"""A trace reduced to what its figures need: sums over all records, which show no record's batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dpaudit.findings import TraceSummary
from dpaudit.sampling.returns import overlap_by_lag, places_in_epochs
from dpaudit.trace import SamplingTrace

_MOST_BINS = 60
# Parts of an epoch, the finest first, and the pairs of draws that each cell needs to speak for many.
_PARTS = (8, 6, 4)
_FEWEST_PAIRS = 25.0


def summarise(trace: SamplingTrace, epoch: int | None = None) -> TraceSummary:
    """Reduce a trace to histograms.

    Args:
      trace: what was watched.
      epoch: steps after which a record is expected to return; None leaves out what is about returns.
    """
    inclusions = trace.inclusions()
    sizes, size_bin = _histogram(trace.batch_sizes)
    counts, count_bin = _histogram(inclusions)
    overlaps, overlap_bin = _overlaps(trace, epoch)
    return TraceSummary(
        batch_sizes=sizes,
        batch_size_bin=size_bin,
        inclusions=counts,
        inclusion_bin=count_bin,
        overlaps=overlaps,
        overlap_bin=overlap_bin,
        epoch=epoch or 0,
        places=_places(trace, epoch),
    )


def _histogram(values: npt.NDArray[np.int64]) -> tuple[tuple[tuple[int, int], ...], int]:
    if len(values) == 0:
        return (), 1
    low, high = int(values.min()), int(values.max())
    width = max(1, -(-(high - low + 1) // _MOST_BINS))
    counts = np.bincount((values - low) // width)
    return tuple((low + width * place, int(count)) for place, count in enumerate(counts)), width


def _overlaps(trace: SamplingTrace, epoch: int | None) -> tuple[tuple[tuple[int, float, float], ...], int]:
    longest = 0 if epoch is None else min(2 * epoch, trace.steps // 2)
    if longest < 1 or trace.draws == 0:
        return (), 1
    found = overlap_by_lag(trace, longest)
    width = -(-longest // _MOST_BINS)
    starts = np.arange(0, longest, width)
    seen, expected = (np.add.reduceat(values, starts) for values in (found.seen, found.expected))
    rows = zip(starts.tolist(), seen.tolist(), expected.tolist(), strict=True)
    return tuple((1 + lag, one, other) for lag, one, other in rows), width


def _places(trace: SamplingTrace, epoch: int | None) -> tuple[tuple[float, ...], ...]:
    """Give the ratio of seen to expected returns by parts of an epoch; empty where they are too few."""
    if epoch is None or trace.draws == 0 or 2 * epoch > trace.steps:
        return ()
    for parts in _PARTS:
        if parts > epoch:
            continue
        found = places_in_epochs(trace, epoch, parts)
        if found.expected.min() >= _FEWEST_PAIRS:
            return tuple(tuple(row) for row in (found.seen / found.expected).tolist())
    return ()
