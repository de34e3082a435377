"""The small SVG plot: everything that is drawn stays inside, whatever is drawn."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dpaudit.audit_report import AuditReport
from dpaudit.findings import EpsilonSeries
from dpaudit.report.drawing import INK, WIDTH, Axis, Plot, fitted, number, width_of
from dpaudit.report.figures import Figures, draw
from dpaudit.report.interval_chart import Interval, interval_chart
from dpaudit.report.sampling_figures import binomial_masses
from dpaudit.report.view import build_view
from tests.sample_report import canary_report

FINITE = st.floats(min_value=-1e6, max_value=1e6)


def figures_of(report: AuditReport) -> Figures:
    return draw(report, build_view(report))


def every(figures: Figures) -> list[str]:
    return [
        str(one.svg)
        for part in (figures.sampling, figures.epsilons, figures.canary, figures.mechanism)
        for one in part
    ]


def assert_inside(svg: str) -> None:
    """Check that lines, boxes and the estimated extent of words are within the figure."""
    root = ElementTree.fromstring(svg)
    _, _, width, height = (float(value) for value in root.get("viewBox").split())
    for element in root.iter():
        kind = element.tag.split("}")[1]
        points: list[tuple[float, float]] = []
        if kind == "text":
            x, y = float(element.get("x")), float(element.get("y"))
            extent = width_of(element.text or "", int(element.get("font-size", 12)))
            left = {None: x, "middle": x - extent / 2, "end": x - extent}[element.get("text-anchor")]
            points = [(left, y), (left + extent, y)]
        elif kind == "rect":
            x, y = float(element.get("x")), float(element.get("y"))
            points = [(x, y), (x + float(element.get("width")), y + float(element.get("height")))]
        elif kind in ("polyline", "polygon"):
            points = [tuple(map(float, pair.split(","))) for pair in element.get("points").split()]
        for x, y in points:
            assert -1.5 <= x <= width + 1.5, (kind, element.text, x)
            assert -1.5 <= y <= height + 1.5, (kind, element.text, y)


def test_every_figure_of_every_kind_stays_inside(report: AuditReport) -> None:
    for one in (report, canary_report()):
        drawn = every(figures_of(one))
        assert drawn
        for svg in drawn:
            assert_inside(svg)


def test_each_kind_of_evidence_has_its_figures(report: AuditReport) -> None:
    both, canary = figures_of(report), figures_of(canary_report())
    assert [len(part) for part in (both.sampling, both.epsilons, both.canary, both.mechanism)] == [4, 3, 5, 2]
    assert [len(part) for part in (canary.sampling, canary.epsilons, canary.canary, canary.mechanism)] == [
        0,
        2,
        5,
        2,
    ]


def test_older_reports_have_fewer_figures(report: AuditReport) -> None:
    summary = replace(report.summary, overlaps=(), places=())
    older = figures_of(replace(report, curves=(), summary=summary))
    assert (len(older.sampling), len(older.epsilons)) == (2, 1)


@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 3.0, 1e7, math.inf])
def test_any_epsilon_can_be_drawn(report: AuditReport, epsilon: float) -> None:
    claimed = replace(report.evidence.claimed, lower=min(epsilon, 1e7), upper=epsilon)
    curve = EpsilonSeries(
        role="claimed",
        scheme="poisson",
        axis="delta",
        at=(1e-9, 1e-5),
        lower=(0.0, 0.0),
        upper=(epsilon,) * 2,
    )
    changed = replace(
        report,
        claim=replace(report.claim, epsilon=epsilon),
        evidence=replace(report.evidence, claimed=claimed),
        curves=(curve,),
    )
    for svg in every(figures_of(changed)):
        assert_inside(svg)


@given(st.lists(st.tuples(FINITE, FINITE, st.text(max_size=200)), min_size=1, max_size=5), FINITE)
def test_any_interval_stays_inside(rows: list[tuple[float, float, str]], mark: float) -> None:
    intervals = [Interval(words, min(a, b), max(a, b), words) for a, b, words in rows]
    assert_inside(interval_chart(intervals, [(mark, "claim")], label="x", title="t", zero=False))


@given(FINITE, FINITE, st.booleans())
def test_ticks_are_few_and_between_the_ends(one: float, other: float, log: bool) -> None:
    low, high = min(one, other), max(one, other)
    if log:
        low, high = math.exp(low / 1e5), math.exp(high / 1e5)
    if high - low <= 1e-6 * max(abs(low), abs(high), 1.0):
        return
    axis = Axis("x", low, high, log=log)
    slack = 1e-6 * (high - low)
    assert all(low - slack <= tick <= high + slack for tick in axis.ticks())
    assert len(axis.ticks()) <= 12
    assert 0 <= axis.share(low) <= axis.share(high) <= 1


@given(st.floats(min_value=1e-12, max_value=1e8))
def test_tick_labels_are_short(value: float) -> None:
    assert len(number(value)) <= 7


@given(st.text(), st.integers(20, 300))
def test_words_are_shortened_to_the_room(words: str, room: int) -> None:
    assert width_of(fitted(words, room)) <= max(room, width_of("abcd"))


@pytest.mark.parametrize(
    ("trials", "rate"), [(1000, 0.05), (10, 0.5), (1536, 1.0), (40, 0.0), (100_000, 1e-4)]
)
def test_the_law_in_a_figure_is_the_binomial(trials: int, rate: float) -> None:
    first, last = -2, min(trials, 60) + 3
    expected = binom.pmf(range(first, last), trials, rate)
    assert binomial_masses(trials, rate, first, last) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_words_from_outside_are_escaped() -> None:
    plot = Plot(Axis("<b>&", 0, 1), Axis('"><script>', 0, 1), legend=((INK, "<i>"),))
    svg = plot.svg("</title><script>")
    assert not re.search(r"<(b|i|script)\b", svg)
    assert ElementTree.fromstring(svg).get("viewBox").startswith(f"0 0 {WIDTH}")


def test_a_model_of_many_tensors_is_drawn_in_part(report: AuditReport) -> None:
    canary = report.evidence.canary
    many = tuple(replace(canary.mechanism[0], tensor=f"layer.{n}.weight") for n in range(150))
    changed = replace(report, evidence=replace(report.evidence, canary=replace(canary, mechanism=many)))
    noise, _ = figures_of(changed).mechanism
    assert "134 more" in noise.caption
    assert len(build_view(changed).canary.mechanism) == 150
