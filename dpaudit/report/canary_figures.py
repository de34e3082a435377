"""Figures of a canary audit: bounds, operating curves, scores, and the mechanism tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator

from dpaudit.audit_report import AuditReport
from dpaudit.canary_findings import CanaryEvidence, MechanismRow, ScoreSummary
from dpaudit.interval import format_lower
from dpaudit.report.canary_words import noise_word
from dpaudit.report.drawing import CLAIMED, DASHED, DOTTED, INK, Axis, Plot
from dpaudit.report.figure import Figure
from dpaudit.report.interval_chart import Interval, interval_chart
from dpaudit.report.rows import View
from dpaudit.report.view import drawn_claim

# A figure of more rows is no longer read; the table holds them all.
_MOST_ROWS = 16


def canary_figures(report: AuditReport, view: View) -> tuple[Figure, ...]:
    """Draw for each attack its operating curve and its scores, then all lower bounds."""
    canary = report.evidence.canary
    if canary is None:
        return ()
    figures = [figure for summary in canary.scores for figure in _attack(summary)]
    return (*figures, _bounds(report, view)) if view.canary.bounds else tuple(figures)


def mechanism_figures(canary: CanaryEvidence | None) -> tuple[Figure, ...]:
    """Draw the noise of each tensor, and the sensitivity of those that hold canaries."""
    if canary is None or not canary.mechanism:
        return ()
    noise = sorted(canary.mechanism, key=lambda row: -abs(math.log(max(row.noise_ratio, 1e-9))))
    figures = [_noise(noise)]
    held = [row for row in canary.mechanism if row.sensitivity is not None]
    if held:
        figures.append(_sensitivity(sorted(held, key=lambda row: -(row.sensitivity or 0.0))))
    return tuple(figures)


def _bounds(report: AuditReport, view: View) -> Figure:
    shown = view.canary.bounds[:_MOST_ROWS]
    mixed = len({row.threat_model for row in shown}) > 1
    rows = [
        Interval(
            f"{row.method}, {row.threat_model}" if mixed else row.method,
            row.low,
            math.inf,
            f"at least {format_lower(row.low)}" + (", decides" if row.deciding else ""),
            warn=bool(row.deciding),
            middle=row.reported_low if row.deciding else None,
        )
        for row in shown
    ]
    claim, claimed = drawn_claim(report), report.evidence.claimed
    marks = [] if claim is None or math.isinf(claim) else [(claim, f"claim {claim:.6g}")]
    if claimed is not None and math.isfinite(claimed.upper) and not report.assumed and claimed.upper != claim:
        marks.append((claimed.upper, f"claimed mechanism {claimed.upper:.4g}"))
    chart = interval_chart(
        rows, marks, label="epsilon (nats)", title="Lower bounds on epsilon from canaries, by method."
    )
    left = len(view.canary.bounds) - len(shown)
    caption = "Lower bounds by method: each bar begins at the bound; confidences are in the table."
    if any(row.deciding and row.reported for row in shown):
        caption += " Dots: the bound of the same method for information, at the usual confidence."
    if marks:
        caption += " A deciding bound to the right of the claim refutes it."
    return Figure(chart, caption + (f" {left} more are in the table." if left else ""))


def _attack(summary: ScoreSummary) -> Iterator[Figure]:
    if len(summary.roc) > 1:
        yield _roc(summary)
    if len(summary.bin_edges) > 1:
        yield _scores(summary)


def _roc(summary: ScoreSummary) -> Figure:
    legend = [(CLAIMED, f"measured, area {summary.area:.3f}"), (DOTTED, "guessing, area 0.5")]
    if summary.claimed_curve:
        legend.insert(1, (DASHED, "most that the claim allows"))
    plot = Plot(
        Axis("absent canaries accused (false positive rate)", 0, 1),
        Axis("present canaries found (true positive rate)", 0, 1),
        legend=legend,
        height=190,
    )
    plot.line([(0.0, 0.0), (1.0, 1.0)], DOTTED)
    if summary.claimed_curve:
        plot.line(summary.claimed_curve, DASHED)
    plot.line(summary.roc, CLAIMED)
    caption = (
        f"Operating curve of the attack by {summary.attack}: area {summary.area:.3f}, where guessing has "
        "0.5. Points above the dashed curve may be chance; the bounds account for that."
        if summary.claimed_curve
        else f"Operating curve of the attack by {summary.attack}: area {summary.area:.3f}, guessing 0.5."
    )
    return Figure(plot.svg(f"Operating curve of the attack by {summary.attack[:80]}."), caption)


def _scores(summary: ScoreSummary) -> Figure:
    edges = list(zip(summary.bin_edges[:-1], summary.bin_edges[1:], strict=True))
    most = max(*summary.included, *summary.excluded, 1)
    plot = Plot(
        Axis("score", summary.bin_edges[0], summary.bin_edges[-1]),
        Axis("canaries", 0, 1.08 * most),
        legend=(
            ("fill", f"in the data ({sum(summary.included):,})"),
            (INK, f"left out ({sum(summary.excluded):,})"),
        ),
    )
    plot.bars(edges, summary.included)
    plot.steps(edges, summary.excluded, INK)
    caption = (
        f"Scores by {summary.attack}: filled bars are canaries that were in the data, the outline those "
        "that were left out. The further apart, the more the training gives away."
    )
    return Figure(plot.svg(f"Scores of included and excluded canaries, {summary.attack[:80]}."), caption)


def _noise(rows: list[MechanismRow]) -> Figure:
    intervals = [
        Interval(
            row.tensor,
            row.noise_low,
            row.noise_high,
            f"{row.noise_ratio:.3g}, {noise_word(row)}",
            warn=row.noise_high < 1,
            middle=row.noise_ratio,
        )
        for row in rows[:_MOST_ROWS]
    ]
    chart = interval_chart(
        intervals,
        [(1.0, "as claimed")],
        label="noise over the claimed noise",
        title="Noise of each parameter tensor, over the claimed noise.",
        zero=False,
    )
    return Figure(chart, f"Noise by tensor, those furthest from the claim first.{_left_out(rows)}")


def _sensitivity(rows: list[MechanismRow]) -> Figure:
    intervals = []
    for row in rows[:_MOST_ROWS]:
        value = row.sensitivity or 0.0
        low = value if row.sensitivity_low is None else row.sensitivity_low
        high = value if row.sensitivity_high is None else row.sensitivity_high
        words = f"{value:.3g}" + (", MORE" if low > 1 else "")
        intervals.append(Interval(row.tensor, low, high, words, warn=low > 1, middle=value))
    chart = interval_chart(
        intervals,
        [(1.0, "clip norm")],
        label="what one participation adds, over the clip norm",
        title="Sensitivity of each parameter tensor, over the clip norm.",
        zero=False,
    )
    return Figure(chart, f"Sensitivity by tensor, the largest first.{_left_out(rows)}")


def _left_out(rows: list[MechanismRow]) -> str:
    return f" {len(rows) - _MOST_ROWS} more are in the table." if len(rows) > _MOST_ROWS else ""
