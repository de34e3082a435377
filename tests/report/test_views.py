from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dpaudit.audit_report import AuditReport
from dpaudit.evidence import Evidence
from dpaudit.report.html import to_html
from dpaudit.report.markdown import inert, to_markdown
from dpaudit.report.printable import printable
from dpaudit.report.text import to_text
from dpaudit.report.view import build_view

HOSTILE = "<script>alert(1)</script> \" onload='x' {{ 7*7 }} #{} \\ `x` | [a](javascript:1) ‮rtl"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    page.close()
    return page


@pytest.fixture
def hostile(report: AuditReport) -> AuditReport:
    """The same report with a hostile string wherever a user can put one."""
    return replace(
        report,
        title=HOSTILE,
        target=HOSTILE,
        advice=(HOSTILE, HOSTILE),
        notes=(HOSTILE * 300,),
        fields=tuple(replace(field, value=HOSTILE, remark=HOSTILE) for field in report.fields),
        provenance=replace(
            report.provenance, command=("dpaudit", HOSTILE), input_sha256={HOSTILE: "0"}, git_commit=HOSTILE
        ),
    )


def test_html_holds_the_verdict_and_every_number(report: AuditReport) -> None:
    html = to_html(report)
    text = " ".join(parse(html).text)
    for part in ("Refuted", "4.099", "1.990", "DPA110", "REJECTED", "MISSING", "dpaudit sampler 'a b.py'"):
        assert part in text


def test_html_runs_and_fetches_nothing(report: AuditReport, hostile: AuditReport) -> None:
    for one in (report, hostile):
        page = parse(to_html(one))
        assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        remote = [value for name, value in page.attributes if name in ("src", "href", "xlink:href") and value]
        assert all(value.startswith("#") for value in remote)
        assert any("default-src 'none'" in (value or "") for _, value in page.attributes)


def test_hostile_strings_add_no_element(report: AuditReport, hostile: AuditReport) -> None:
    assert sorted(parse(to_html(hostile)).tags) == sorted(parse(to_html(report)).tags)
    assert printable(HOSTILE) in " ".join(parse(to_html(hostile)).text)
    assert "\u202e" not in to_html(hostile)


def test_html_is_byte_stable(report: AuditReport) -> None:
    assert to_html(report) == to_html(report)


def test_figures_have_words(report: AuditReport) -> None:
    page = parse(to_html(report))
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert page.tags.count("svg") == 14
    assert sum("Poisson" in (label or "") for label in labels) == 2
    assert page.tags.count("figcaption") == 14


def test_a_report_without_evidence_still_renders(report: AuditReport) -> None:
    bare = replace(
        report,
        evidence=Evidence(),
        summary=None,
    )
    assert "svg" not in parse(to_html(bare)).tags
    assert to_text(bare)
    assert to_markdown(bare)


def test_text_fits_the_terminal(report: AuditReport, hostile: AuditReport) -> None:
    for one in (report, hostile):
        lines = to_text(one, width=80, verbose=True).splitlines()
        assert max(map(len, lines)) <= 80


def test_text_is_plain_unless_asked(report: AuditReport) -> None:
    assert "\x1b" not in to_text(report)
    assert "\x1b[" in to_text(report, color=True)


@given(st.text())
@example("\x1b[31mred\x1b[0m \u202ertl")
def test_nothing_steers_the_terminal(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", printable(text))
    assert len(printable(text)) == len(text)


def test_markdown_rows_keep_their_shape(report: AuditReport, hostile: AuditReport) -> None:
    rows = [line for line in to_markdown(hostile).splitlines() if line.startswith("| ")]
    own = [line for line in to_markdown(report).splitlines() if line.startswith("| ")]
    shapes = [[len(re.findall(r"(?<!\\)\|", row)) for row in table] for table in (rows, own)]
    assert shapes[0] == shapes[1]


@given(st.text())
@example("<b>&amp;[x](y) `z` #1 @me $a$ ![](http://a.b)")
def test_markdown_strings_are_inert(text: str) -> None:
    escaped = inert(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>`*_\[\]|&]", escaped)


def test_assumed_numbers_are_marked(report: AuditReport) -> None:
    assert "ASSUMED" in build_view(replace(report, assumed=True)).epsilons_caption
    assert "ASSUMED" not in build_view(report).epsilons_caption
