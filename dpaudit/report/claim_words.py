"""Words for the claim: one formal sentence, what it promises, and which of its parts were looked at."""

from __future__ import annotations

import math

from dpaudit.audit_report import AuditReport, Status
from dpaudit.interval import format_lower, format_upper
from dpaudit.report.canary_words import amount, in_percent
from dpaudit.report.rows import FieldRow, ScopeRow
from dpaudit.verdict import claimed_epsilon

_ADJACENCIES = {
    "add_or_remove_one": "one record added or removed",
    "replace_one": "one record replaced",
    "zero_out": "one record's contribution set to zero",
}
# The false accusations that the promise is spelled out for, as a share of those who are absent.
_FALSE_ALARMS = 0.01


def field_rows(report: AuditReport) -> tuple[FieldRow, ...]:
    """Word every field of the claim."""
    return tuple(
        FieldRow(field.label, field.value, field.status.value.upper(), field.remark)
        for field in report.fields
    )


def claim_sentence(report: AuditReport) -> str:
    """State the claim formally, every number of it."""
    cells = {field.name: field for field in report.fields}

    def value(name: str) -> str:
        field = cells.get(name)
        if field is None or not field.value:
            return "not stated"
        return field.value + (" (assumed)" if field.status is Status.ASSUMED else "")

    unit = report.claim.unit or "record"
    stated = cells["adjacency"].value if "adjacency" in cells else report.claim.adjacency or ""
    adjacency = _ADJACENCIES.get(stated, stated or "what is not stated")
    return (
        f"The training is (epsilon, delta)-differentially private with epsilon = {value('epsilon')} and "
        f"delta = {value('delta')}; neighbouring data sets differ in {adjacency} (unit: {unit}). "
        f"Sampling: {value('sampling')}. Noise multiplier {value('noise_multiplier')}, "
        f"{value('steps')} steps, {value('num_records')} records."
    )


def meaning(report: AuditReport) -> str:
    """Say what the claim promises against the best guesser, in per cent.

    Under (epsilon, delta)-DP a guesser with false-positive rate a has a true-positive rate of at most
    min(e^epsilon a + delta, 1 - e^-epsilon (1 - delta - a)) (arXiv:1905.02383, proposition 2.5).
    """
    epsilon, delta = claimed_epsilon(report.claim, report.evidence), _delta(report)
    if epsilon is None or delta is None or report.assumed:
        return ""
    alarms = _FALSE_ALARMS
    by_ratio = math.exp(min(epsilon, 50.0)) * alarms + delta
    found = min(by_ratio, 1 - math.exp(-epsilon) * (1 - delta - alarms), 1.0)
    share = math.ceil(1000 * found - 1e-9) / 10
    unit = report.claim.unit or "record"
    what = f"a given {unit} was in the training data"
    if report.claim.adjacency == "replace_one":
        what = f"a given {unit} or another one in its place was in the training data"
    return (
        f"In other words: whoever guesses whether {what}, knowing all the rest, and is wrong about "
        f"{100 * alarms:g} % of those that were not, is right about at most {share:g} % of those that were."
    )


def _delta(report: AuditReport) -> float | None:
    claimed = report.evidence.claimed
    return report.claim.delta if claimed is None else claimed.delta


def scope_rows(report: AuditReport) -> tuple[ScopeRow, ...]:
    """Say part by part whether it was looked at and what was found, for page one."""
    return (_accounting(report), _sampling(report), _mechanism(report), _attack(report), _stated(report))


def _accounting(report: AuditReport) -> ScopeRow:
    part, claimed = "The arithmetic of epsilon", report.evidence.claimed
    if claimed is None:
        return ScopeRow(part, "NOT CHECKED", "No accountant covers what is claimed.")
    number = format_upper(claimed.upper)
    if report.assumed:
        return ScopeRow(
            part, "NOT CHECKED", f"Noise or steps were not stated; with assumed ones, epsilon {number}."
        )
    stated = report.claim.epsilon
    if stated is None:
        return ScopeRow(part, "CHECKED", f"No epsilon is stated; the stated numbers give {number}.")
    word = "is within" if stated >= claimed.lower else "is larger than"
    return ScopeRow(
        part, "CHECKED", f"Recomputed from the stated numbers: {number}. That {word} the claimed {stated:g}."
    )


def _sampling(report: AuditReport) -> ScopeRow:
    part, observed = "How batches are drawn", report.evidence.observed
    if observed is None:
        canary = report.evidence.canary
        seen = canary is not None and any(test.rule in ("DPA308", "DPA309") for test in canary.tests)
        if seen:
            return ScopeRow(part, "PARTLY", "Only the steps that canaries took part in were looked at.")
        return ScopeRow(part, "NOT CHECKED", "No batches were watched.")
    if observed.contradicts_claim:
        found = f"Not as claimed. What runs: {observed.description}."
    elif observed.unseen:
        found = "No deviation was seen, but too few steps were watched to tell."
    else:
        found = f"As claimed, as far as {observed.steps:,} steps can show."
    return ScopeRow(part, "CHECKED", found)


def _mechanism(report: AuditReport) -> ScopeRow:
    part, canary = "Noise and clipping", report.evidence.canary
    if canary is None or not canary.tests:
        return ScopeRow(part, "NOT CHECKED", "No released update was looked at.")
    rejected = list(dict.fromkeys(test.name for test in canary.rejections))
    count = "1 test" if len(canary.tests) == 1 else f"{len(canary.tests)} tests"
    found = f"{count} of the released updates found no deviation."
    if rejected:
        side = "Not as claimed" if canary.contradicts_claim else "Deviates, to the side of more privacy"
        found = f"{side}: {', '.join(rejected)}."
    return ScopeRow(part, "CHECKED", found)


def _attack(report: AuditReport) -> ScopeRow:
    part, canary = "Attack on inserted canaries", report.evidence.canary
    if canary is None or not canary.bounds:
        return ScopeRow(part, "NOT CHECKED", "No attack was tried.")
    best = max(canary.bounds, key=lambda bound: (bound.decides, bound.interval.lower))
    lower, confidence = format_lower(best.interval.lower), in_percent(best.interval.confidence)
    found = f"Epsilon is at least {lower}, with confidence {confidence} ({amount(best)})."
    return ScopeRow(part, "CHECKED", found)


def _stated(report: AuditReport) -> ScopeRow:
    """Count what is only said, and name what is not even that."""
    by_status = {
        status: [field.label.lower() for field in report.fields if field.status is status]
        for status in (Status.DECLARED, Status.MISSING)
    }
    found = f"{len(by_status[Status.DECLARED])} fields are declared and taken on trust."
    if by_status[Status.MISSING]:
        found += f" Not stated: {', '.join(by_status[Status.MISSING])}."
    return ScopeRow("Everything else in the claim", "NOT CHECKED", found)
