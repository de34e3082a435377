"""Figures of the sampling that was watched, each against what the claim lets expect."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpaudit.audit_report import AuditReport
from dpaudit.findings import ObservedScheme, TraceSummary
from dpaudit.report.drawing import DASHED, DOTTED, INK, OBSERVED, Axis, Plot, Stroke
from dpaudit.report.figure import Figure

_SEEN = Stroke(OBSERVED.color)
_LEGEND = (("fill", "seen"), (INK, "expected of Poisson sampling"))


def sampling_figures(report: AuditReport) -> tuple[Figure, ...]:
    """Draw batch sizes, inclusions, overlaps and places; what was not recorded is left out."""
    summary, observed = report.summary, report.evidence.observed
    if summary is None or observed is None:
        return ()
    drawn = (
        _batch_sizes(summary, observed),
        _inclusions(summary, observed),
        _overlaps(summary),
        _places(summary),
    )
    return tuple(figure for figure in drawn if figure is not None)


def _batch_sizes(summary: TraceSummary, observed: ObservedScheme) -> Figure | None:
    if not summary.batch_sizes:
        return None
    law = (observed.num_records, observed.rate.claimed, observed.steps)
    labels = ("records in a step", "steps of that size")
    title = "Batch sizes seen, against Poisson sampling at the claimed rate."
    caption = f"Batch sizes: {_spread(summary.batch_sizes, law)}."
    return Figure(_histogram(summary.batch_sizes, summary.batch_size_bin, law, labels, title), caption)


def _inclusions(summary: TraceSummary, observed: ObservedScheme) -> Figure | None:
    if not summary.inclusions:
        return None
    law = (observed.steps, observed.rate.claimed, observed.num_records)
    labels = ("steps that a record was in", "records")
    title = "How often each record was drawn, against Poisson sampling at the claimed rate."
    caption = f"Steps of each record: {_spread(summary.inclusions, law)}."
    return Figure(_histogram(summary.inclusions, summary.inclusion_bin, law, labels, title), caption)


def _spread(counts: Sequence[tuple[int, int]], law: tuple[int, float, int]) -> str:
    """Say in words what the bars show: the range seen, and the range that chance gives."""
    trials, rate, _ = law
    mean, deviation = trials * rate, math.sqrt(trials * rate * (1 - rate))
    present = [value for value, count in counts if count]
    seen = f"{present[0]:,}" if len(present) == 1 else f"{present[0]:,} to {present[-1]:,}"
    low, high = _whole(mean - 2 * deviation), _whole(mean + 2 * deviation)
    return f"seen {seen}; of Poisson sampling mostly {low} to {high}"


def _whole(value: float) -> str:
    return f"{max(0, round(value)):,}"


def _histogram(
    counts: Sequence[tuple[int, int]],
    width: int,
    law: tuple[int, float, int],
    labels: tuple[str, str],
    title: str,
) -> str:
    trials, rate, total = law
    first, mean = counts[0][0], trials * rate
    reach = 4 * math.sqrt(mean * (1 - rate)) + 1
    before = max(0, math.ceil((first - max(0.0, mean - reach)) / width))
    starts = range(first - before * width, max(counts[-1][0], math.ceil(mean + reach)) + 1, width)
    masses = binomial_masses(trials, rate, starts[0], starts[-1] + width)
    expected = [total * sum(masses[at - starts[0] : at - starts[0] + width]) for at in starts]
    edges = [(at - 0.5, at + width - 0.5) for at in starts]
    most = max(*expected, *(count for _, count in counts))
    plot = Plot(Axis(labels[0], edges[0][0], edges[-1][1]), Axis(labels[1], 0, 1.08 * most), legend=_LEGEND)
    plot.bars([(at - 0.5, at + width - 0.5) for at, _ in counts], [count for _, count in counts])
    plot.steps(edges, expected, INK)
    return plot.svg(title)


def binomial_masses(trials: int, rate: float, first: int, last: int) -> list[float]:
    """Give the masses of Binomial(trials, rate) at first, ..., last - 1; 0 where there are none."""
    if not 0 < rate < 1:
        sure = trials if rate >= 1 else 0
        return [float(at == sure) for at in range(first, last)]
    ways = math.lgamma(trials + 1)
    return [
        math.exp(
            ways
            - math.lgamma(at + 1)
            - math.lgamma(trials - at + 1)
            + at * math.log(rate)
            + (trials - at) * math.log1p(-rate)
        )
        if 0 <= at <= trials
        else 0.0
        for at in range(first, last)
    ]


def _overlaps(summary: TraceSummary) -> Figure | None:
    """Draw how many records steps have in common, by their distance, over what chance gives."""
    rows = [
        (lag, seen / expected, 3 / math.sqrt(expected))
        for lag, seen, expected in summary.overlaps
        if expected > 0
    ]
    if len(rows) < 2:
        return None
    lags = [lag + (summary.overlap_bin - 1) / 2 for lag, _, _ in rows]
    ratios = [ratio for _, ratio, _ in rows]
    top = 1.1 * max(1.5, *ratios)
    plot = Plot(
        Axis("steps apart", 0, max(lags) + summary.overlap_bin),
        Axis("records in common, over what chance gives", 0, top),
        legend=((_SEEN, "seen"), (DASHED, "independent steps")),
    )
    bands = [min(reach, top) for _, _, reach in rows]
    plot.band(lags, [1 - reach for reach in bands], [1 + reach for reach in bands], "currentColor")
    plot.level(1, DASHED)
    if 0 < summary.epoch < max(lags):
        plot.upright(summary.epoch, DOTTED, "one epoch")
    plot.line(list(zip(lags, ratios, strict=True)), _SEEN, dots=True)
    outside = sum(abs(ratio - 1) > reach for _, ratio, reach in rows)
    caption = (
        f"Overlap of steps by their distance: {outside} of {len(rows)} points are outside the grey band of "
        "three standard deviations around independent steps."
    )
    return Figure(plot.svg("Records that steps have in common, by the steps between them."), caption)


def _places(summary: TraceSummary) -> Figure | None:
    """Draw where records come in one epoch and in the next."""
    if not summary.places:
        return None
    parts = len(summary.places)
    plot = Plot(
        Axis("part of an epoch that a record is in", 0.5, parts + 0.5),
        Axis("part of the next epoch that it is in", 0.5, parts + 0.5),
        height=190,
    )
    most = max(2.0, *(ratio for row in summary.places for ratio in row))
    for i, row in enumerate(summary.places, start=1):
        for j, ratio in enumerate(row, start=1):
            plot.cell((i - 0.5, i + 0.5), (j - 0.5, j + 0.5), ratio / most, f"{ratio:.2f}")
    ratios = [ratio for row in summary.places for ratio in row]
    caption = (
        "Position in the epoch, from one epoch to the next: records found, over what independent steps "
        f"give (1). The cells range from {min(ratios):.2f} to {max(ratios):.2f}."
    )
    return Figure(
        plot.svg("Part of an epoch that a record is in, against the part of the next epoch."), caption
    )
