"""Strings that try to be something else, and a report that is full of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from hypothesis import strategies as st

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from tests.sample_report import sample_report

HOSTILE = (
    "<script>alert(1)</script> \" onload='x' {{ 7*7 }} #{} \\ `x` | [a](javascript:1) ‮rtl ]]> $x$ \x1b[31m"
)

_PIECES = st.sampled_from(
    [
        HOSTILE,
        "</title>",
        "#import",
        "\\u{202e}",
        "-->",
        "A" * 10_000,
        "مرحبا",
        "\x00",
        "\ud800",
        "\uffff",
        "]]>",
        "{%",
        "://",
        "..\\..\\",
        "\n\n# x",
    ]
)
HOSTILE_TEXT = st.one_of(st.text(), _PIECES, st.tuples(st.text(max_size=20), _PIECES).map("".join))


def hostile_report(text: str = HOSTILE) -> AuditReport:
    """Put a string wherever one from outside can come in; numbers and words of our own stay."""
    report = sample_report()
    canary, observed = report.evidence.canary, report.evidence.observed
    assert canary is not None
    assert observed is not None
    assert report.evidence.claimed is not None
    evidence = replace(
        report.evidence,
        claimed=replace(report.evidence.claimed, method=text, reference=text),
        observed=replace(
            observed,
            description=text,
            notes=(text,),
            tests=tuple(
                replace(one, name=text, null_hypothesis=text, effect_unit=text) for one in observed.tests
            ),
            alternatives=tuple(replace(one, name=text) for one in observed.alternatives),
        ),
        canary=replace(
            canary,
            bounds=tuple(
                replace(
                    one,
                    attack=text,
                    interval=replace(one.interval, method=text, reference=text, notes=(text,)),
                )
                for one in canary.bounds
            ),
            tests=tuple(
                replace(one, name=text, null_hypothesis=text, effect_unit=text) for one in canary.tests
            ),
            alternatives=tuple(replace(one, name=text) for one in canary.alternatives),
            scores=tuple(replace(one, attack=text) for one in canary.scores),
            mechanism=tuple(replace(one, tensor=text) for one in canary.mechanism),
            setting=((text, text), (text, text), (text, text)),
            plan=text,
            notes=(text,),
        ),
    )
    return replace(
        report,
        title=text,
        target=text,
        claim=replace(report.claim, unit=text),
        evidence=evidence,
        advice=(text, text),
        notes=(text,),
        curves=tuple(replace(one, scheme=text) for one in report.curves),
        fields=tuple(replace(field, label=text, value=text, remark=text) for field in report.fields),
        provenance=replace(
            report.provenance,
            command=("dpaudit", text),
            input_sha256={text: "0"},
            git_commit=text,
            platform=text,
            packages={text: text},
        ),
    )


def waivers(text: str) -> tuple[AppliedWaiver, ...]:
    """Give two waivers of a string, one of them expired."""
    one = AppliedWaiver(
        rule="DPA201", finding=text, reason=text, until=date(2026, 1, 1), approved_by=text, expired=False
    )
    return one, replace(one, expired=True)
