"""What a report owes to readers who do not see it, or not well: checked without a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from dpaudit.audit_report import AuditReport
from dpaudit.report import drawing
from dpaudit.report.html import to_html
from tests.report.hostile import hostile_report, waivers
from tests.sample_report import canary_report, sample_report

# Ratios that WCAG 2.2 asks for: of text (1.4.3, AA), and of parts of figures (1.4.11).
_OF_TEXT, _OF_FIGURES = 4.5, 3.0


class _Elements(HTMLParser):
    """Every element as (name, attributes, names of its parents)."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}, tuple(self._open)))
        if tag not in ("meta", "br", "rect", "line", "circle", "polyline", "polygon"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def named(self, *names: str) -> list[dict[str, str]]:
        return [attributes for name, attributes, _ in self.found if name in names]


@pytest.fixture(params=[sample_report, canary_report, hostile_report], ids=lambda make: make.__name__)
def elements(request) -> _Elements:
    report: AuditReport = request.param()
    return _Elements(to_html(report, waivers("known")))


def test_the_page_has_a_language_a_title_and_one_main_part(elements) -> None:
    assert elements.named("html")[0]["lang"] == "en"
    assert len(elements.named("main")) == 1
    assert len(elements.named("title")) > 1  # of the page, then of the figures
    assert "maximum-scale" not in str(elements.named("meta"))


def test_headings_go_down_one_level_at_a_time(elements) -> None:
    levels = [int(name[1]) for name, _, _ in elements.found if re.fullmatch("h[1-6]", name)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_tables_have_a_caption_and_header_cells_a_scope(elements) -> None:
    tables = elements.named("table")
    assert len(tables) == len(elements.named("caption")) == len(elements.named("thead")) > 5
    assert {attributes.get("scope") for attributes in elements.named("th")} == {"col", "row"}
    assert all(attributes["data-label"] for attributes in elements.named("td"))


def test_figures_have_a_name_and_a_caption(elements) -> None:
    figures = elements.named("svg")
    assert len(figures) == len(elements.named("figcaption")) == len(elements.named("figure")) > 5
    assert all(one["role"] == "img" and one["aria-label"] for one in figures)


def test_scrolling_parts_can_be_reached_and_are_named(elements) -> None:
    regions = [one for one in elements.named("div") if "scroll" in one.get("class", "").split()]
    assert regions
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in regions)


def test_ids_are_unique_and_nothing_jumps_the_queue(elements) -> None:
    ids = [attributes["id"] for _, attributes, _ in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not [one for _, one, _ in elements.found if one.get("tabindex", "0") != "0"]


def luminance(color: str) -> float:
    """Give the relative luminance of #rgb or #rrggbb, as WCAG 2.2 defines it."""
    digits = color.lstrip("#")
    digits = "".join(2 * one for one in digits) if len(digits) == 3 else digits
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Give the contrast ratio of two colours, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes() -> list[dict[str, str]]:
    """Read the colours of the style sheet: light, dark, print."""
    blocks = re.findall(r":root \{(.*?)\}", to_html(sample_report()), re.DOTALL)
    return [dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", block)) for block in blocks]


def test_the_ratio_is_that_of_the_standard() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.005)


def test_text_and_figures_stand_out_in_every_theme() -> None:
    found = themes()
    assert len(found) == 3
    for colors in found:
        for background in (colors["page"], colors["panel"]):
            for name in ("ink", "soft", "good", "bad", "unsure"):
                assert contrast(colors[name], background) >= _OF_TEXT, (name, background)
        for stroke in (drawing.CLAIMED, drawing.OBSERVED):
            assert contrast(stroke.color, colors["page"]) >= _OF_FIGURES
