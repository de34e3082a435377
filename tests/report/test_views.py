from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from dpaudit.audit_report import AuditReport
from dpaudit.evidence import Evidence
from dpaudit.report.html import to_html
from dpaudit.report.markdown import inert, to_markdown
from dpaudit.report.pdf import to_pdf
from dpaudit.report.printable import printable
from dpaudit.report.text import to_text
from dpaudit.report.view import build_view
from tests.report.hostile import HOSTILE, HOSTILE_TEXT, hostile_report, waivers
from tests.sample_report import canary_report


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
def hostile() -> AuditReport:
    """The same report with a hostile string wherever one from outside can come in."""
    return hostile_report()


def test_html_holds_the_verdict_and_every_number(report: AuditReport) -> None:
    html = to_html(report)
    text = " ".join(parse(html).text)
    for part in ("Refuted", "4.099", "1.990", "DPA110", "REJECTED", "MISSING", "dpaudit sampler 'a b.py'"):
        assert part in text


def test_html_runs_and_fetches_nothing(report: AuditReport, hostile: AuditReport) -> None:
    for one in (report, hostile, canary_report()):
        page = parse(to_html(one, waivers(HOSTILE)))
        assert not {"script", "link", "iframe", "object", "img"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        remote = [value for name, value in page.attributes if name in ("src", "href", "xlink:href") and value]
        assert all(value.startswith("#") for value in remote)
        assert any("default-src 'none'" in (value or "") for _, value in page.attributes)


@given(HOSTILE_TEXT)
@settings(max_examples=15)
@example(HOSTILE)
def test_no_string_adds_an_element(text: str) -> None:
    html = to_html(hostile_report(text or " "), waivers(text or " "))
    page = parse(html)
    assert page.tags == parse(to_html(hostile_report("x"), waivers("x"))).tags
    assert not re.search("[\u202a-\u202e\ud800-\udfff]", html)
    assert {name for name, _ in page.attributes if name.startswith("on")} == set()


@given(HOSTILE_TEXT)
@settings(max_examples=30)
@example(HOSTILE)
def test_no_string_breaks_a_table_or_a_line(text: str) -> None:
    report, reasons = hostile_report(text or " "), waivers(text or " ")
    shapes = [_shape(to_markdown(one, reasons)) for one in (report, hostile_report("x"))]
    assert shapes[0] == shapes[1]
    for verbose in (False, True):
        lines = to_text(report, reasons, width=80, verbose=verbose).splitlines()
        assert max(map(cell_len, lines)) <= 80


def _shape(markdown: str) -> list[int]:
    """Count the cells of each table row."""
    rows = [line for line in markdown.split("\n") if line.startswith("| ")]
    return [len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows]


def test_pdf_holds_every_string_as_text(hostile: AuditReport) -> None:
    pdf = to_pdf(hostile, waivers(HOSTILE))
    assert pdf.startswith(b"%PDF")
    assert pdf == to_pdf(hostile, waivers(HOSTILE))
    long = "A" * 10_000
    assert to_pdf(replace(canary_report(), title=long, target=long)).startswith(b"%PDF")


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


def test_text_is_plain_unless_asked(report: AuditReport) -> None:
    assert "\x1b" not in to_text(report)
    assert "\x1b[" in to_text(report, color=True)


@given(st.text())
@example("\x1b[31mred\x1b[0m \u202ertl")
def test_nothing_steers_the_terminal(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", printable(text))
    assert len(printable(text)) == len(text)


@given(st.text())
@example("<b>&amp;[x](y) `z` #1 @me $a$ ![](http://a.b)")
def test_markdown_strings_are_inert(text: str) -> None:
    escaped = inert(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>`*_\[\]|&]", escaped)


def test_assumed_numbers_are_marked(report: AuditReport) -> None:
    assert "ASSUMED" in build_view(replace(report, assumed=True)).epsilons_caption
    assert "ASSUMED" not in build_view(report).epsilons_caption


def test_a_canary_report_reads_on_its_own() -> None:
    """What only canaries looked at says so, in every format."""
    report = canary_report()
    view = build_view(report)
    scope = {row.part: (row.status, row.finding) for row in view.scope}
    assert scope["How batches are drawn"][0] == "NOT CHECKED"
    assert scope["Noise and clipping"] == ("CHECKED", "1 test of the released updates found no deviation.")
    assert scope["Attack on inserted canaries"][1].startswith("Epsilon is at least 0.8")
    assert view.headline == "Consistent: the claim was not refuted."
    assert any("No data loader was watched" in limit for limit in view.limits)
    assert not view.tests
    for text in (to_html(report), to_text(report, width=120), to_markdown(report)):
        assert "independent scores" in text
        assert "for information" in text.lower()
        assert "Tests of Poisson sampling" not in text


def test_each_bound_says_what_it_assumes_and_whether_it_decides(report: AuditReport) -> None:
    section = build_view(report).canary
    student, clopper = section.bounds
    assert (student.deciding, student.reported) == ("3.399 at 99.95\u00a0%", "3.399 at 95\u00a0%")
    assert (clopper.deciding, clopper.reported) == ("", "1.199 at 95\u00a0%")
    assert (student.assumes, clopper.assumes) == ("the claimed curve, many runs", "independent scores")
    assert (student.threat_model, clopper.threat_model) == ("white box", "black box")
    assert student.canaries == "1,000 x 10 runs"
    assert any("holds only if canaries score independently" in line for line in section.legend)


def test_mechanism_words_are_those_of_the_interval(report: AuditReport) -> None:
    weight, bias = build_view(report).canary.mechanism
    assert weight.noise_word == bias.noise_word == "LESS than claimed"
    assert (weight.sensitivity_word, bias.sensitivity) == ("within the clip norm", "no canary here")


def test_waivers_are_shown_and_change_no_verdict(report: AuditReport) -> None:
    applied = waivers("known")
    for text in (to_html(report, applied), to_markdown(report, applied), to_text(report, applied)):
        assert "EXPIRED" in text
        assert "IN FORCE" in text
    assert build_view(report, applied).outcome == "REFUTED"
    assert "Waivers" not in to_text(report)


@pytest.mark.parametrize(
    ("epsilon", "share"), [(0.0, "1.1 %"), (1.0, "2.8 %"), (4.29, "73 %"), (float("inf"), "100 %")]
)
def test_the_promise_is_spelled_out(report: AuditReport, epsilon: float, share: str) -> None:
    """At most delta + e^epsilon times 1 %, rounded up; never more than the other bound allows."""
    changed = replace(report, claim=replace(report.claim, epsilon=epsilon))
    assert f"right about at most {share} of those" in build_view(changed).meaning
    assert build_view(replace(changed, assumed=True)).meaning == ""
