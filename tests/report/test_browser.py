"""Reports in a real browser, on a wide and a narrow screen, in light and dark."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from dpaudit.audit_report import AuditReport
from dpaudit.report.html import to_html
from tests.report.browser import Browser, find_browser
from tests.report.hostile import HOSTILE, hostile_report, waivers
from tests.sample_report import canary_report, sample_report

PROGRAM = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed"),
]

SCREENS = [(1280, False), (1280, True), (390, False), (390, True)]

# Elements that stick out of the page or of their box, unless they are hidden on purpose.
STICKING_OUT = """
(() => {
  const wide = document.documentElement.clientWidth + 1;
  return [...document.querySelectorAll('main *')]
    .filter(one => !one.closest('svg, .hidden, thead') && one.offsetParent)
    .filter(one => one.getBoundingClientRect().right > wide || one.getBoundingClientRect().left < -1
                   || (one.matches('.scroll, td, th, p, li, code') && one.scrollWidth > one.clientWidth + 1))
    .map(one => one.outerHTML.slice(0, 120));
})()
"""

# Words of figures that leave their figure, or lie on other words of it.
CLASHING_WORDS = """
(() => {
  const found = [];
  for (const figure of document.querySelectorAll('svg')) {
    const room = figure.viewBox.baseVal;
    const boxes = [...figure.querySelectorAll('text')].map(one => [one.textContent, one.getBBox()]);
    for (const [words, box] of boxes)
      if (Math.min(box.x, box.y, room.width - box.x - box.width, room.height - box.y - box.height) < -1)
        found.push(['outside', words, figure.getAttribute('aria-label')]);
    boxes.forEach(([words, a], place) => boxes.slice(place + 1).forEach(([others, b]) => {
      const wide = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
      const high = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
      if (wide > 1 && high > 3) found.push(['overlap', words, others, figure.getAttribute('aria-label')]);
    }));
  }
  return found;
})()
"""


def reports() -> dict[str, str]:
    """Give every kind of page by name."""
    sampling = sample_report()
    alone = replace(sampling, evidence=replace(sampling.evidence, canary=None))
    pages: dict[str, tuple[AuditReport, str]] = {
        "both": (sampling, "known"),
        "sampling": (alone, "known"),
        "canary": (canary_report(), "known"),
        "hostile": (hostile_report(), HOSTILE),
    }
    return {name: to_html(report, waivers(reason)) for name, (report, reason) in pages.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        opened = Browser(PROGRAM, Path(profile))
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, html in reports().items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(html, encoding="utf-8")
    return found


@pytest.mark.parametrize("name", ["both", "sampling", "canary", "hostile"])
@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_nothing_is_fetched_clipped_or_overlapping(browser, pages, name: str, width: int, dark: bool) -> None:
    browser.open(pages[name], width=width, dark=dark)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(STICKING_OUT) == []
    assert browser.run(CLASHING_WORDS) == []
    assert browser.complaints() == []
    assert browser.requests() == [pages[name].as_uri()]


@pytest.mark.parametrize("name", ["both", "sampling", "canary", "hostile"])
@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_axe_finds_nothing(browser, pages, name: str, width: int, dark: bool) -> None:
    pytest.importorskip("axe_core_python")
    script = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.open(pages[name], width=width, dark=dark)
    browser.run(f"{script}; 0")
    found = json.loads(browser.run("axe.run().then(result => JSON.stringify(result))"))
    assert len(found["passes"]) > 20
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []


def test_the_checks_can_fail(browser, tmp_path) -> None:
    page = tmp_path / "bad.html"
    wide = reports()["both"].replace("<h1>", '<h1 style="width: 3000px">')
    wide = wide.replace("</svg>", '<text x="0" y="13">over</text><text x="900" y="9">out</text></svg>', 1)
    page.write_text(wide.replace("</main>", '<p style="color: #ccc">faint</p></main><img src="x.png">'))
    browser.open(page, width=390)
    assert browser.run("document.documentElement.scrollWidth") > 390
    assert browser.run(STICKING_OUT)
    assert {one[0] for one in browser.run(CLASHING_WORDS)} == {"outside", "overlap"}
    assert browser.complaints()
