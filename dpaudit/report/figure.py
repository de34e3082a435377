"""A drawn figure with its caption."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a report."""

    svg: str
    """Our own drawing: markup, every string in it escaped."""
    caption: str
    """What it shows, and what there is to see, for whoever cannot."""
