"""The Markdown view, for pull requests and step summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from dpaudit.report.printable import printable
from dpaudit.report.rows import TestRow, View
from dpaudit.report.view import build_view

# Everything that Markdown or the HTML inside it could take for markup.
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~&@:$])")


def to_markdown(report: AuditReport, waivers: Sequence[AppliedWaiver] = ()) -> str:
    """Render a report as GitHub-flavoured Markdown; strings from the user are inert."""
    view = build_view(report, waivers)
    lines = [f"## {inert(view.title)}", "", f"**{inert(view.headline)}**", ""]
    lines += [*_bullets(view.reasons), "", f"Claim: {inert(view.claim)}", "", inert(view.meaning), ""]
    lines += _table(
        "What was looked at",
        ("Part of the claim", "Status", "Finding"),
        [(row.part, row.status, row.finding) for row in view.scope],
    )
    lines += _table(
        "Waivers",
        ("Rule", "State", "Waived finding", "Reason", "Until", "Approved by"),
        [(row.rule, row.state, row.finding, row.reason, row.until, row.approved_by) for row in view.waivers],
    )
    lines += [*_sampling(view), *_canary(view)]
    for title, items in (
        ("What would have been seen of the sampling", view.visible),
        ("What the canaries would have shown", view.canary.visible),
        ("How to fix it", view.advice),
        ("Limits of this audit", view.limits),
        ("Notes", view.notes),
    ):
        if items:
            lines += [f"### {title}", "", *_bullets(items), ""]
    return "\n".join(lines).rstrip() + "\n"


def _sampling(view: View) -> list[str]:
    lines = _table(
        "Epsilon",
        ("", "Sampling", "At least", "At most", "Method"),
        [(row.role, row.scheme, row.lower, row.upper, row.method) for row in view.epsilons],
        view.epsilons_caption,
    )
    return lines + _tests("Tests of the sampling", view.tests, " ".join(view.seen))


def _canary(view: View) -> list[str]:
    canary = view.canary
    lines = _table(
        "Lower bounds from canaries",
        ("Method", "Decides", "For information", "Attacker", "Canaries", "Assumes"),
        [
            (row.method, row.deciding, row.reported, row.threat_model, row.canaries, row.assumes)
            for row in canary.bounds
        ],
        canary.bounds_caption,
    )
    lines += _tests("Tests of the mechanism", canary.tests, canary.tests_caption)
    return lines + _table(
        "Noise and sensitivity",
        ("Tensor", "Noise", "Reads", "Sensitivity", "Reads"),
        [
            (row.tensor, row.noise, row.noise_word, row.sensitivity, row.sensitivity_word)
            for row in canary.mechanism
        ],
        canary.mechanism_caption,
    )


def inert(text: str) -> str:
    """Escape a string so that Markdown shows it literally, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(printable(text).split()))


def _bullets(items: Sequence[str]) -> list[str]:
    return [f"- {inert(item)}" for item in items]


def _tests(title: str, tests: Sequence[TestRow], caption: str) -> list[str]:
    header = ("Rule", "Null hypothesis", "p, adjusted", "Result")
    rows = [(row.rule, row.null_hypothesis, row.p_value, row.result) for row in tests]
    return _table(title, header, rows, caption)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> list[str]:
    """Lay out a table under its heading; nothing at all where it has no row."""
    if not rows:
        return []
    lines = [f"### {title}", "", *([inert(caption), ""] if caption else [])]
    lines += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(inert(cell) for cell in row) + " |" for row in rows]
    return [*lines, ""]
