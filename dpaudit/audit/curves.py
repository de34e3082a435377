"""Epsilon along delta and along the steps, of the claimed sampling and of what runs, for figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from dpaudit.audit.epsilons import bracket, bracket_seen, cover
from dpaudit.audit.setting import Setting
from dpaudit.evidence import Evidence
from dpaudit.findings import EpsilonSeries
from dpaudit.interval import EpsilonInterval
from dpaudit.scheme import SamplingScheme
from dpaudit.trace import SamplingTrace

Point = Callable[[Setting], EpsilonInterval | None]

# Few points: each costs what an epsilon costs, and the curves are smooth.
_DELTAS = (1e-8, 1e-6, 1e-5, 1e-4)
_SHARES = (0.05, 0.15, 0.4)
# Seconds of computing that figures may add to an audit; most need about one.
FIGURE_SECONDS = 3.0


def claimed_point(scheme: SamplingScheme) -> Point:
    """Give what brackets the claimed scheme in a setting."""
    return lambda setting: bracket(scheme, setting)[0]


def observed_point(schemes: tuple[SamplingScheme, ...], trace: SamplingTrace, significance: float) -> Point:
    """Give what covers the schemes that a trace leaves open, in a setting."""

    def point(setting: Setting) -> EpsilonInterval | None:
        found = [bracket_seen(scheme, setting, trace, significance)[0] for scheme in schemes]
        known = tuple(interval for interval in found if interval is not None)
        return cover(known) if known and len(known) == len(found) else None

    return point


def draw_series(
    evidence: Evidence,
    setting: Setting,
    claimed: Point,
    observed: Point | None,
    budget: float = FIGURE_SECONDS,
) -> tuple[EpsilonSeries, ...]:
    """Bracket both schemes at other deltas and at shares of the steps.

    Args:
      evidence: holds the intervals at the setting's own delta and steps, which are not computed anew.
      setting: of the comparison.
      claimed: brackets the claimed scheme.
      observed: brackets what runs; None where that is not known to be another scheme.
      budget: seconds of processor time; 0 computes nothing. A series that would exceed it is left out.
    """
    until = time.process_time() + budget
    sources = [("claimed", evidence.claimed, claimed)]
    if observed is not None:
        sources.append(("observed", evidence.observed_interval, observed))
    series = []
    for axis in ("delta", "steps"):
        for role, own, point in sources:
            found = None if own is None else _one(role, own, point, axis, setting, until)
            series += [] if found is None else [found]
    return tuple(series)


def _one(
    role: str, own: EpsilonInterval, point: Point, axis: str, setting: Setting, until: float
) -> EpsilonSeries | None:
    """Compute one series; None where time runs out or a point has no epsilon."""
    settings: dict[float, Setting | None] = {}
    if axis == "delta":
        settings = {delta: replace(setting, delta=delta) for delta in _DELTAS}
        settings[setting.delta] = None
    else:
        shares = [max(1, round(share * setting.steps)) for share in _SHARES]
        settings = {float(steps): replace(setting, steps=steps, epochs=None) for steps in shares}
        settings[float(setting.steps)] = None
    intervals = []
    for at in sorted(settings):
        if time.process_time() >= until:
            return None
        other = settings[at]
        interval = own if other is None else point(other)
        if interval is None:
            return None
        intervals.append(interval)
    return EpsilonSeries(
        role=role,  # type: ignore[arg-type]
        scheme="" if own.scheme is None else own.scheme.name,
        axis=axis,  # type: ignore[arg-type]
        at=tuple(sorted(settings)),
        lower=tuple(interval.lower for interval in intervals),
        upper=tuple(interval.upper for interval in intervals),
    )
