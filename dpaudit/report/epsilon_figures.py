"""Figures of the epsilons: intervals with the claim as a line, and both schemes over delta and steps."""

from __future__ import annotations

import math

from dpaudit.audit_report import AuditReport
from dpaudit.findings import EpsilonSeries
from dpaudit.report.drawing import CLAIMED, DASHED, DOTTED, OBSERVED, Axis, Plot, Stroke
from dpaudit.report.epsilon_words import series_label
from dpaudit.report.figure import Figure
from dpaudit.report.interval_chart import Interval, interval_chart
from dpaudit.report.rows import View
from dpaudit.report.view import drawn_claim

_STROKES = {"claimed": CLAIMED, "observed": OBSERVED}


def epsilon_figures(report: AuditReport, view: View) -> tuple[Figure, ...]:
    """Draw the intervals, then one figure for each axis that was computed."""
    figures = [] if not view.epsilons else [_intervals(view, drawn_claim(report))]
    for axis in ("delta", "steps"):
        series = [one for one in report.curves if one.axis == axis and len(one.at) > 1]
        if series:
            figures.append(_curves(report, series, axis))
    return tuple(figures)


def _intervals(view: View, claimed: float | None) -> Figure:
    rows = [
        Interval(
            f"{row.scheme}, {row.role}" if row.scheme else row.role,
            row.low,
            row.high,
            f"{row.lower} to {row.upper}",
            warn=place > 0,
        )
        for place, row in enumerate(view.epsilons)
    ]
    marks = [] if claimed is None or math.isinf(claimed) else [(claimed, f"claim {claimed:.6g}")]
    chart = interval_chart(
        rows,
        marks,
        label="epsilon (nats)",
        title="Epsilon of the claimed sampling and of what runs, as intervals.",
    )
    caption = "Epsilon from lower to upper bound; an arrow: no upper bound is known."
    return Figure(chart, caption + (" Dashed: the claim." if marks else ""))


def _curves(report: AuditReport, series: list[EpsilonSeries], axis: str) -> Figure:
    known = [value for one in series for value in (*one.lower, *one.upper) if math.isfinite(value)]
    ends = [at for one in series for at in one.at]
    legend = [(_STROKES[one.role], series_label(one)) for one in series]
    x = Axis("delta" if axis == "delta" else "steps", min(ends), max(ends), log=axis == "delta")
    if axis == "steps":
        x = Axis("steps", 0.0, max(ends))
    plot = Plot(x, Axis("epsilon (nats)", 0.0, 1.1 * max(*known, 1e-3)), legend=legend)
    for one in series:
        _series(plot, one)
    claim, claimed = drawn_claim(report), report.evidence.claimed
    if claim is not None and math.isfinite(claim) and claim <= max(known):
        plot.level(claim, DASHED, f"claim {claim:.6g}")
    if axis == "delta" and claimed is not None:
        plot.upright(claimed.delta, DOTTED, "claimed delta")
    what = "Epsilon against delta" if axis == "delta" else "Epsilon against the steps of training"
    names = " and ".join(series_label(one) for one in series)
    bounds = "Shaded from lower to upper bound" if _gap(series) else "Lower and upper bound nearly coincide"
    return Figure(plot.svg(f"{what}, {names}."), f"{what}, {names}. {bounds}.")


def _series(plot: Plot, one: EpsilonSeries) -> None:
    stroke = _STROKES[one.role]
    finite = [place for place, value in enumerate(one.upper) if math.isfinite(value)]
    if len(finite) > 1:
        plot.band(
            [one.at[place] for place in finite],
            [one.lower[place] for place in finite],
            [one.upper[place] for place in finite],
            stroke.color,
        )
        thin = Stroke(stroke.color, stroke.dash, 1.0)
        plot.line([(one.at[place], one.upper[place]) for place in finite], thin)
    plot.line(list(zip(one.at, one.lower, strict=True)), stroke)


def _gap(series: list[EpsilonSeries]) -> bool:
    """Tell whether a band is wide enough to be seen."""
    pairs = [(low, high) for one in series for low, high in zip(one.lower, one.upper, strict=True)]
    return any(high - low > 0.01 * max(high, 1e-9) for low, high in pairs)
