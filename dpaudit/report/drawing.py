"""A small SVG plot: axes, bars, lines, intervals, text. Equal input gives equal bytes.

Reports are made from JSON in well under a second, which importing a plotting library alone would
exceed. Ink is `currentColor`, so that a figure follows a light or a dark page; kinds of marks differ
in shape as well as in colour, and every figure carries its title as words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from dpaudit.report.printable import printable

WIDTH = 400
"""Units of a figure's width; text is 12 units high, so it stays legible on a narrow screen."""
_FONT = 12
# Mean advance of a character over the font size, of common sans-serif fonts, on the safe side.
_ADVANCE = 0.56
_LEFT, _RIGHT, _BOTTOM = 50, 12, 42


@dataclass(frozen=True, slots=True)
class Stroke:
    """How a line is drawn; `dash` is an SVG dash array."""

    color: str = "currentColor"
    dash: str = ""
    width: float = 1.4


INK = Stroke()
DASHED = Stroke(dash="6 4")
DOTTED = Stroke(dash="1.5 3")
# Both have a contrast of at least 3 : 1 against white and against near-black.
CLAIMED = Stroke(color="#2a78d6", width=2.2)
OBSERVED = Stroke(color="#d1491b", dash="8 3", width=2.2)
_FILL = f'fill="{CLAIMED.color}" fill-opacity="0.75"'


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its label and the values at both ends, low < high."""

    label: str
    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Place a value between 0 (low) and 1 (high); values beyond are held at the ends."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            return math.log(at / low) / math.log(high / low)
        return (at - low) / (high - low)

    def ticks(self) -> list[float]:
        """Choose some round values."""
        if self.log:
            powers = range(
                math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1
            )
            return [10.0**power for power in powers]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(place * step, 12) for place in range(first, last + 1)]


class Plot:
    """Marks on two axes, gathered and then written as SVG.

    Args:
      x: horizontal axis.
      y: vertical axis; its label stands above it.
      legend: (stroke, words) of each kind of mark, or ("fill", words) for bars.
      height: of the area inside the axes.
    """

    def __init__(
        self, x: Axis, y: Axis, *, legend: Sequence[tuple[Stroke | str, str]] = (), height: int = 150
    ) -> None:
        self._x, self._y, self._height = x, y, height
        self._marks: list[str] = []
        rows = _legend_rows(legend)
        self._top = 22 + 16 * len(rows) + 8
        self._head = [text(0, 13, fitted(y.label, WIDTH))]
        for place, row in enumerate(rows):
            self._head += _legend_row(row, 31 + 16 * place)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Give the position of a point in the figure."""
        across = _LEFT + self._x.share(x) * (WIDTH - _LEFT - _RIGHT)
        return across, self._top + (1 - self._y.share(y)) * self._height

    def bars(self, edges: Iterable[tuple[float, float]], values: Iterable[float]) -> None:
        """Draw filled bars from the bottom up; `edges` are (left, right)."""
        for (left, right), value in zip(edges, values, strict=True):
            (x0, y0), (x1, y1) = self.at(left, value), self.at(right, self._y.low)
            if value > self._y.low:
                width = max(x1 - x0 - 0.4, 0.8)
                self._marks.append(
                    f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{width:.1f}" height="{y1 - y0:.1f}" {_FILL}/>'
                )

    def line(self, points: Sequence[tuple[float, float]], stroke: Stroke, *, dots: bool = False) -> None:
        """Draw a line through points; with `dots`, mark each of them."""
        places = [self.at(x, y) for x, y in points]
        self._marks.append(_polyline(places, stroke))
        if dots:
            self._marks += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{stroke.color}"/>' for x, y in places
            ]

    def steps(self, edges: Sequence[tuple[float, float]], values: Sequence[float], stroke: Stroke) -> None:
        """Draw the outline of a histogram."""
        points = [(at, value) for pair, value in zip(edges, values, strict=True) for at in pair]
        self.line([(points[0][0], self._y.low), *points, (points[-1][0], self._y.low)], stroke)

    def band(self, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], color: str) -> None:
        """Shade what lies between two lines."""
        there = [self.at(x, y) for x, y in zip(xs, highs, strict=True)]
        back = [self.at(x, y) for x, y in zip(xs, lows, strict=True)][::-1]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*there, *back])
        self._marks.append(f'<polygon points="{points}" fill="{color}" fill-opacity="0.18"/>')

    def cell(self, x: tuple[float, float], y: tuple[float, float], strength: float, words: str) -> None:
        """Fill a rectangle of the plane, the more the stronger, and write words into it."""
        (x0, y0), (x1, y1) = self.at(x[0], y[1]), self.at(x[1], y[0])
        self._marks.append(
            f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
            f'fill="{CLAIMED.color}" fill-opacity="{0.5 * min(max(strength, 0), 1):.2f}"/>'
        )
        self._marks.append(text((x0 + x1) / 2, (y0 + y1) / 2 + 4, words, anchor="middle", size=10))

    def upright(self, x: float, stroke: Stroke, words: str = "") -> None:
        """Draw a vertical line through the whole plot, with words at its top."""
        (across, bottom), (_, top) = self.at(x, self._y.low), self.at(x, self._y.high)
        self._marks.append(_polyline([(across, bottom), (across, top)], stroke))
        right = across > WIDTH * 0.7
        if words:
            anchor = "end" if right else "start"
            self._marks.append(text(across + (-4 if right else 4), top + 10, words, anchor=anchor, size=11))

    def level(self, y: float, stroke: Stroke, words: str = "") -> None:
        """Draw a horizontal line through the whole plot, with words above its right end."""
        (left, down), (right, _) = self.at(self._x.low, y), self.at(self._x.high, y)
        self._marks.append(_polyline([(left, down), (right, down)], stroke))
        if words:
            self._marks.append(text(right - 2, down - 4, words, anchor="end", size=11))

    def svg(self, title: str) -> Markup:
        """Write the figure, named by its title."""
        bottom = self._top + self._height
        frame = [_polyline([(_LEFT, self._top), (_LEFT, bottom), (WIDTH - _RIGHT, bottom)], Stroke(width=1))]
        for value in _thinned(self._y.ticks(), 6):
            _, y = self.at(self._x.low, value)
            frame += [_polyline([(_LEFT - 4, y), (_LEFT, y)], Stroke(width=1))]
            frame += [text(_LEFT - 7, y + 4, number(value), anchor="end")]
        for value in _thinned(self._x.ticks(), 7):
            x, _ = self.at(value, self._y.low)
            frame += [_polyline([(x, bottom), (x, bottom + 4)], Stroke(width=1))]
            frame += [text(inside(x, number(value)), bottom + 17, number(value), anchor="middle")]
        frame.append(text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 35, self._x.label, anchor="middle"))
        return svg([*self._head, *self._marks, *frame], bottom + _BOTTOM, title)


def svg(elements: Iterable[str], height: float, title: str) -> Markup:
    """Wrap elements as a figure with a name."""
    name = escape(printable(title))
    body = "\n".join(elements)
    return Markup(  # only numbers, our own words and escaped strings
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{name}" font-family="system-ui, sans-serif" font-size="{_FONT}">'
        f"<title>{name}</title>\n{body}\n</svg>"
    )


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = _FONT) -> str:
    """Write escaped words; `anchor` is start, middle or end."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    big = "" if size == _FONT else f' font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="currentColor"{where}{big}>{escape(printable(words))}</text>'


def fitted(words: str, room: float, size: int = _FONT) -> str:
    """Shorten words in the middle until they fit a room."""
    words = " ".join(printable(words).split())
    most = max(4, int(room / (_ADVANCE * size)))
    if len(words) <= most:
        return words
    return f"{words[: most - most // 2 - 1]}…{words[len(words) - most // 2 :]}"


def width_of(words: str, size: int = _FONT) -> float:
    """Estimate the width of words, on the safe side."""
    return _ADVANCE * size * len(words)


def inside(x: float, words: str) -> float:
    """Move the middle of words so that they stay within the figure."""
    half = width_of(words) / 2 + 1
    return min(max(x, half), WIDTH - half)


def number(value: float) -> str:
    """Write a tick label in at most six characters."""
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:.4g}"
    if 1e4 <= abs(value) < 1e9:
        return f"{value / 1e3:.4g}k" if abs(value) < 1e6 else f"{value / 1e6:.4g}M"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def _polyline(points: Sequence[tuple[float, float]], stroke: Stroke) -> str:
    dash = f' stroke-dasharray="{stroke.dash}"' if stroke.dash else ""
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = f'stroke="{stroke.color}" stroke-width="{stroke.width}"{dash}'
    return f'<polyline points="{places}" fill="none" {look}/>'


def _thinned(values: list[float], most: int) -> list[float]:
    return values[:: max(1, math.ceil(len(values) / most))]


def _legend_rows(legend: Sequence[tuple[Stroke | str, str]]) -> list[list[tuple[Stroke | str, str]]]:
    """Break a legend into rows that fit."""
    rows: list[list[tuple[Stroke | str, str]]] = []
    room = 0.0
    for item in legend:
        wide = 44 + width_of(item[1], 11)
        if not rows or wide > room:
            rows.append([])
            room = WIDTH
        rows[-1].append(item)
        room -= wide
    return rows


def _legend_row(row: list[tuple[Stroke | str, str]], y: float) -> list[str]:
    elements, x = [], 0.0
    for mark, words in row:
        if isinstance(mark, Stroke):
            elements.append(_polyline([(x, y - 4), (x + 24, y - 4)], mark))
        else:
            elements.append(f'<rect x="{x:.1f}" y="{y - 9}" width="24" height="10" {_FILL}/>')
        words = fitted(words, WIDTH - 40, 11)
        elements.append(text(x + 29, y, words, size=11))
        x += 44 + width_of(words, 11)
    return elements
