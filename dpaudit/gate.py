"""The gate: policy, waivers and baseline against a set of audit reports. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from dpaudit.audit_report import AuditReport, Status
from dpaudit.config import Config
from dpaudit.interval import format_upper
from dpaudit.policy import EXPIRED_WAIVER, AppliedWaiver, GateFinding, GatePolicy, Waiver
from dpaudit.verdict import SEVERITY, Outcome, Reason, claimed_epsilon, objections

_NO_REASON = Reason("DPA400", "The report gives no reason for its verdict.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """What the gate found; aggregation is pessimistic."""

    findings: tuple[GateFinding, ...]

    @property
    def exit_code(self) -> int:
        """1 with any error, else 3 with anything inconclusive, else 0."""
        levels = {finding.level for finding in self.findings}
        return 1 if "error" in levels else 3 if "inconclusive" in levels else 0


def pass_gate(
    reports: Mapping[str, AuditReport],
    policy: GatePolicy,
    *,
    waivers: Sequence[Waiver] = (),
    baseline: Mapping[str, AuditReport] | None = None,
    today: date,
) -> GateOutcome:
    """Hold a set of reports against a policy.

    A missing required audit fails. Epsilons compare unrounded. A waiver turns the findings of its
    rule into "waived" until the end of its last day; after that it fails and says so. One that
    matches nothing is a warning.

    Args:
      reports: by name.
      policy: what is demanded.
      waivers: who answers for what.
      baseline: earlier reports by name; a worse verdict, a larger epsilon, a claim that cannot be
        compared with the earlier one, or an audit that is gone, fails. One report and one baseline
        are compared whatever their names. None: no baseline.
      today: the day that waivers are held against.
    """
    found = [*_missing(reports, policy)]
    for name, report in reports.items():
        found += _findings(name, report, policy)
    found += _against(reports, baseline or {})
    found = _levelled(found, policy)
    stale = _levelled(_stale(found, waivers, today), policy)
    return GateOutcome(findings=(*_waive(found, waivers, today), *stale))


def applied_waivers(
    name: str, report: AuditReport, config: Config, *, today: date
) -> tuple[AppliedWaiver, ...]:
    """List the waivers that meet a finding of one report, expired ones too, for the report to show.

    Args:
      name: of the report, as `audit` of a waiver gives it: its file name without suffix.
      report: what was found.
      config: policy and waivers of the project.
      today: the day that waivers are held against.
    """
    found = _levelled(_findings(name, report, config.gate), config.gate)
    return tuple(
        AppliedWaiver(
            rule=waiver.rule,
            finding=finding.sentence,
            reason=waiver.reason,
            until=waiver.until,
            approved_by=waiver.approved_by,
            expired=today > waiver.until,
        )
        for waiver in config.waivers
        for finding in found
        if _matches(waiver, finding)
    )


def finding_line(finding: GateFinding) -> str:
    """Say a finding in one line, whatever is in it: level, rule, audit, sentence."""
    where = f"{finding.audit}: " if finding.audit else ""
    return " ".join(f"{finding.level.upper()} {finding.rule} {where}{finding.sentence}".split())


def stated_epsilon(report: AuditReport) -> float | None:
    """Give the epsilon that a report's claim stands for; None where it rests on assumptions."""
    if report.assumed and report.claim.epsilon is None:
        return None
    return claimed_epsilon(report.claim, report.evidence)


def _findings(name: str, report: AuditReport, policy: GatePolicy) -> Iterator[GateFinding]:
    yield from _verdict(name, report, policy)
    yield from _rejections(name, report, policy)
    yield from _epsilon(name, report, policy)
    yield from _fields(name, report, policy)


def _missing(reports: Mapping[str, AuditReport], policy: GatePolicy) -> Iterator[GateFinding]:
    for name in policy.required:
        if name not in reports:
            yield _error("DPA402", name, f"The required audit {name!r} is missing.")


def _verdict(name: str, report: AuditReport, policy: GatePolicy) -> Iterator[GateFinding]:
    """Give each ground of a bad verdict by itself: whoever answers for one has not for the others."""
    grounds: dict[str, tuple[Outcome, Reason]] = {}
    for outcome, reason in _grounds(report):
        grounds.setdefault(reason.rule, (outcome, reason))
    if "DPA201" in grounds:
        grounds.pop("DPA202", None)  # it says what runs as well, and what epsilon that has
    for rule, (outcome, reason) in grounds.items():
        level = policy.inconclusive if outcome is Outcome.INCONCLUSIVE else "error"
        sentence = f"{outcome.value.capitalize()}: {reason.sentence}"
        yield GateFinding(level=level, rule=rule, audit=name, sentence=sentence)


def _grounds(report: AuditReport) -> Iterator[tuple[Outcome, Reason]]:
    """Give the grounds of the verdict, then those that a graver one left unsaid."""
    outcome, reasons = report.verdict.outcome, report.verdict.reasons or (_NO_REASON,)
    if outcome is Outcome.CONSISTENT:
        return
    yield from ((outcome, reason) for reason in (reasons if outcome is Outcome.REFUTED else reasons[:1]))
    if outcome is Outcome.INCONCLUSIVE:
        return
    for other in objections(*report.weighed):
        # Of another sampling or mechanism, what comes after the first reason are the tests that show it.
        every = other.outcome is Outcome.REFUTED
        yield from ((other.outcome, reason) for reason in (other.reasons if every else other.reasons[:1]))


def _rejections(name: str, report: AuditReport, policy: GatePolicy) -> Iterator[GateFinding]:
    observed, canary = report.evidence.observed, report.evidence.canary
    tests = () if observed is None else observed.tests
    for test in (*tests, *(() if canary is None else canary.tests)):
        if test.rejected and test.rule in policy.rules:
            yield _error(test.rule, name, f"Rejected: {test.null_hypothesis}.")


def _epsilon(name: str, report: AuditReport, policy: GatePolicy) -> Iterator[GateFinding]:
    if policy.max_epsilon is None:
        return
    epsilon = stated_epsilon(report)
    if epsilon is None:
        yield _error("DPA401", name, "No epsilon is claimed, so none is known to be within the limit.")
    elif epsilon > policy.max_epsilon:
        sentence = f"The claimed epsilon {format_upper(epsilon)} exceeds the limit {policy.max_epsilon:g}."
        yield _error("DPA401", name, sentence)


def _fields(name: str, report: AuditReport, policy: GatePolicy) -> Iterator[GateFinding]:
    by_name = {field.name: field for field in report.fields}
    for wanted in policy.required_fields:
        if wanted not in by_name or by_name[wanted].status in (Status.MISSING, Status.ASSUMED):
            yield _error("DPA403", name, f"The claim does not state {wanted!r}.")


def _against(
    reports: Mapping[str, AuditReport], baseline: Mapping[str, AuditReport]
) -> Iterator[GateFinding]:
    if len(reports) == len(baseline) == 1:
        baseline = dict(zip(reports, baseline.values(), strict=True))
    for name, earlier in baseline.items():
        if name in reports:
            yield from _regressions(name, reports[name], earlier)
        else:
            yield _error("DPA404", name, f"The audit {name!r} of the baseline is missing.")


def _regressions(name: str, report: AuditReport, earlier: AuditReport) -> Iterator[GateFinding]:
    new, old = report.verdict.outcome, earlier.verdict.outcome
    if SEVERITY.index(new) > SEVERITY.index(old):
        yield _error("DPA404", name, f"The verdict was {old.value} and is now {new.value}.")
    epsilon, before = stated_epsilon(report), stated_epsilon(earlier)
    if before is not None and (math.inf if epsilon is None else epsilon) > before:
        now = "not stated any more" if epsilon is None else f"now {epsilon:.6g}"
        yield _error("DPA404", name, f"The claimed epsilon was {before:.6g} and is {now}.")
    delta, earlier_delta = report.claim.delta, earlier.claim.delta
    if earlier_delta is not None and (1.0 if delta is None else delta) > earlier_delta:
        now = "not stated any more" if delta is None else f"now {delta:.6g}"
        yield _error("DPA404", name, f"The claimed delta was {earlier_delta:.6g} and is {now}.")
    for what in ("adjacency", "unit"):
        now, then = getattr(report.claim, what), getattr(earlier.claim, what)
        if then is not None and now != then:
            sentence = f"The claimed {what} was {then} and is {now or 'not stated any more'}: not comparable."
            yield _error("DPA404", name, sentence)


def _error(rule: str, audit: str, sentence: str) -> GateFinding:
    return GateFinding(level="error", rule=rule, audit=audit, sentence=sentence)


def _levelled(found: Iterable[GateFinding], policy: GatePolicy) -> list[GateFinding]:
    """Give each finding the level that the policy names for its rule; drop those that are off."""
    named = [replace(one, level=policy.rules.get(one.rule, one.level)) for one in found]
    return [one for one in named if one.level != "off"]


def _matches(waiver: Waiver, finding: GateFinding) -> bool:
    return waiver.rule == finding.rule and waiver.audit in (None, finding.audit)


def _waive(found: Sequence[GateFinding], waivers: Sequence[Waiver], today: date) -> Iterator[GateFinding]:
    for finding in found:
        waiver = next((one for one in waivers if today <= one.until and _matches(one, finding)), None)
        if waiver is None:
            yield finding
            continue
        who = f"waived until {waiver.until} by {waiver.approved_by}: {waiver.reason}"
        yield replace(finding, level="waived", sentence=f"{finding.sentence} ({who})")


def _stale(found: Sequence[GateFinding], waivers: Sequence[Waiver], today: date) -> Iterator[GateFinding]:
    for waiver in waivers:
        used = any(_matches(waiver, finding) for finding in found)
        if today > waiver.until:
            sentence = f"The waiver of {waiver.rule} by {waiver.approved_by} expired on {waiver.until}."
            yield _error(EXPIRED_WAIVER, waiver.audit or "", sentence)
        elif not used:
            sentence = f"The waiver of {waiver.rule} by {waiver.approved_by} matches no finding."
            yield GateFinding(level="warn", rule="DPA406", audit=waiver.audit or "", sentence=sentence)
