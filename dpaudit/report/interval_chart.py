"""Intervals one below the other, with lines to hold them against: the forest plot of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dpaudit.report.drawing import (
    CLAIMED,
    DASHED,
    DOTTED,
    OBSERVED,
    WIDTH,
    Axis,
    Stroke,
    fitted,
    inside,
    number,
    svg,
    text,
    width_of,
)

_ROW, _PAD = 34, 8


@dataclass(frozen=True, slots=True)
class Interval:
    """One row: its label, its ends, and what they read."""

    label: str
    low: float
    high: float
    """Infinity is drawn as an arrow."""
    words: str
    warn: bool = False
    """Drawn in the colour of what runs, not in that of the claim."""
    middle: float | None = None


def interval_chart(
    rows: Sequence[Interval], marks: Sequence[tuple[float, str]], *, label: str, title: str, zero: bool = True
) -> Markup:
    """Draw intervals and vertical lines.

    Args:
      rows: top to bottom, at least one.
      marks: (value, words) of each line, at most two.
      label: of the axis.
      title: names the figure.
      zero: begin the axis at 0.
    """
    axis = _axis(rows, marks, label, zero)
    top, bottom = 6 + 15 * len(marks), 6 + 15 * len(marks) + _ROW * len(rows)
    elements = []
    for place, row in enumerate(rows):
        elements += _row(axis, row, top + _ROW * place)
    for place, (value, words) in enumerate(marks):
        stroke = (DASHED, DOTTED)[place % 2]
        elements += _mark(_across(axis, value), 12 + 15 * place, top, len(rows), stroke, words)
    elements.append(_line(_PAD, bottom, WIDTH - _PAD, bottom))
    for value in axis.ticks():
        x = _across(axis, value)
        elements.append(_line(x, bottom, x, bottom + 4))
        elements.append(text(inside(x, number(value)), bottom + 17, number(value), anchor="middle"))
    elements.append(text(WIDTH / 2, bottom + 34, label, anchor="middle"))
    return svg(elements, bottom + 41, title)


def _axis(rows: Sequence[Interval], marks: Sequence[tuple[float, str]], label: str, zero: bool) -> Axis:
    ends = [end for row in rows for end in (row.low, row.high)] + [value for value, _ in marks]
    finite = [end for end in ends if math.isfinite(end)] or [1.0]
    low, high = (0.0 if zero else min(finite)), max(finite)
    room = 0.12 * max(high - low, 0.05 * abs(high), 1e-3)
    return Axis(label, low if zero else low - room, high + room)


def _across(axis: Axis, value: float) -> float:
    return _PAD + axis.share(value) * (WIDTH - 2 * _PAD)


def _row(axis: Axis, row: Interval, top: float) -> list[str]:
    words = fitted(row.words, WIDTH * 0.6)
    room = WIDTH - 2 * _PAD - width_of(words) - 10
    y = top + 22
    x0 = _across(axis, row.low)
    endless = math.isinf(row.high)
    x1 = WIDTH - _PAD if endless else _across(axis, row.high)
    color = (OBSERVED if row.warn else CLAIMED).color
    elements = [
        text(_PAD, top + 12, fitted(row.label, room)),
        text(WIDTH - _PAD, top + 12, words, anchor="end"),
        f'<rect x="{x0:.1f}" y="{y - 2.5}" width="{max(x1 - x0, 1):.1f}" height="5" fill="{color}"/>',
        f'<rect x="{x0 - 1:.1f}" y="{y - 6}" width="2.4" height="12" fill="{color}"/>',
    ]
    if endless:
        elements.append(
            f'<polygon points="{x1 - 8:.1f},{y - 6} {x1:.1f},{y} {x1 - 8:.1f},{y + 6}" fill="{color}"/>'
        )
    else:
        elements.append(f'<rect x="{x1 - 1:.1f}" y="{y - 6}" width="2.4" height="12" fill="{color}"/>')
    if row.middle is not None:
        elements.append(f'<circle cx="{_across(axis, row.middle):.1f}" cy="{y}" r="4" fill="currentColor"/>')
    return elements


def _mark(x: float, y: float, top: float, rows: int, stroke: Stroke, words: str) -> list[str]:
    """Draw a line down from its words, interrupted where the rows have theirs."""
    right = x > WIDTH / 2
    anchor, at = ("end", x - 4) if right else ("start", x + 4)
    pieces = [(y - 9, top)] + [(top + _ROW * row + 15, top + _ROW * row + 31) for row in range(rows)]
    lines = [
        f'<line x1="{x:.1f}" y1="{start}" x2="{x:.1f}" y2="{end}" stroke="currentColor" '
        f'stroke-width="1.5" stroke-dasharray="{stroke.dash}"/>'
        for start, end in pieces
    ]
    return [*lines, text(at, y, fitted(words, max(x, WIDTH - x) - 8), anchor=anchor)]


def _line(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="currentColor"/>'
