"""A plot of epsilon intervals in plain characters, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpaudit.interval import format_lower, format_upper


def interval_plot(
    rows: Sequence[tuple[str, float, float]], claim: float, *, width: int = 80
) -> tuple[str, ...]:
    """Draw each interval as a bar on one logarithmic axis, with the claim as a line through all.

    Ends are rounded outward to whole characters. An interval without an upper end runs into ">".

    Args:
      rows: label, lower and upper end of each interval; 0 <= lower <= upper, upper may be infinite.
      claim: the epsilon that is drawn as "|".
      width: columns, labels included.

    Returns:
      Lines, the axis last; none where nothing is finite and positive.
    """
    ends = [end for _, lower, upper in rows for end in (lower, upper) if 0 < end < math.inf]
    ends += [claim] if 0 < claim < math.inf else []
    if not ends:
        return ()
    low, high = min(ends), max(ends)
    margin = 2 + max(len(label) for label, _, _ in rows)
    cells = width - margin - 1
    scale = (cells - 1) / math.log(high / low) if high > low else 0.0

    def place(epsilon: float) -> float:
        return 0.0 if epsilon <= low else scale * math.log(min(epsilon, high) / low)

    mark = round(place(claim))
    lines = [
        f"{label:<{margin}}{_bar(place(lower), place(upper), mark, cells, math.isinf(upper))}"
        for label, lower, upper in rows
    ]
    left, right = format_lower(low), format_upper(high)
    axis = f"{'':<{margin}}{left}{right:>{cells - len(left)}}"
    return (*(line.rstrip() for line in lines), axis)


def _bar(start: float, end: float, mark: int, cells: int, endless: bool) -> str:
    first, last = math.floor(start), cells - 1 if endless else max(math.ceil(end), math.floor(start))
    drawn = ["=" if first <= cell <= last else " " for cell in range(cells)]
    drawn[mark] = "|" if drawn[mark] == " " else "#"
    return "".join(drawn) + (">" if endless else "")
