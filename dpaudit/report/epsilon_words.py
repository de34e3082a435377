"""Words for the epsilons: of the claim, of what runs, and both at other deltas and steps."""

from __future__ import annotations

from dpaudit.audit_report import AuditReport
from dpaudit.findings import EpsilonSeries
from dpaudit.interval import EpsilonInterval, format_lower, format_upper
from dpaudit.report.rows import CurveTable, EpsilonRow

_ROLES = {"claimed": "as claimed", "observed": "what runs", "open": "possibly"}
_AXES = {"delta": "Epsilon at other deltas", "steps": "Epsilon after fewer steps"}


def epsilon_rows(report: AuditReport) -> tuple[EpsilonRow, ...]:
    """Word the interval of the claimed scheme, then those of what runs."""
    evidence = report.evidence
    rows = [("claimed", evidence.claimed)]
    if evidence.open_intervals:
        rows += [("open", interval) for interval in evidence.open_intervals]
    elif evidence.observed is not None and evidence.observed.contradicts_claim:
        rows.append(("observed", evidence.observed_interval))
    return tuple(_row(role, interval) for role, interval in rows if interval is not None)


def epsilons_caption(report: AuditReport) -> str:
    """Say what all rows have in common."""
    interval = report.evidence.claimed
    if interval is None:
        return ""
    caption = f"At delta = {interval.delta:g}, {interval.adjacency}."
    if report.assumed:
        caption += " The noise multiplier or the steps were not claimed: ASSUMED, for comparison only."
    return caption


def curve_tables(report: AuditReport) -> tuple[CurveTable, ...]:
    """Tabulate the series of each axis side by side."""
    tables = []
    for axis, caption in _AXES.items():
        series = [one for one in report.curves if one.axis == axis]
        if series:
            tables.append(_table(axis, caption, series))
    return tuple(tables)


def series_label(series: EpsilonSeries) -> str:
    """Name a series: "what runs (shuffle)"."""
    scheme = series.scheme.replace("_", " ")
    return f"{_ROLES[series.role]} ({scheme})" if scheme else _ROLES[series.role]


def _row(role: str, interval: EpsilonInterval) -> EpsilonRow:
    scheme = "" if interval.scheme is None else interval.scheme.name.replace("_", " ")
    return EpsilonRow(
        role=_ROLES[role],
        scheme=scheme,
        lower=format_lower(interval.lower),
        upper=format_upper(interval.upper),
        method=interval.method,
        reference=interval.reference,
        low=interval.lower,
        high=interval.upper,
    )


def _table(axis: str, caption: str, series: list[EpsilonSeries]) -> CurveTable:
    ranges = [dict(zip(one.at, zip(one.lower, one.upper, strict=True), strict=True)) for one in series]
    rows = []
    for at in sorted({at for one in series for at in one.at}):
        cells = [
            f"{format_lower(found[at][0])} to {format_upper(found[at][1])}" if at in found else ""
            for found in ranges
        ]
        rows.append((f"{at:g}" if axis == "delta" else f"{at:,.0f}", *cells))
    header = (axis.capitalize(), *(_ROLES[one.role].capitalize() for one in series))
    return CurveTable(caption=caption, header=header, rows=tuple(rows))
