"""What `dpaudit check` found, and the exit code it comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from dpaudit.audit.run import AuditDone, AuditFailed, AuditResult
from dpaudit.audit_report import AuditReport
from dpaudit.config import Config
from dpaudit.gate import GateOutcome, pass_gate
from dpaudit.policy import GateFinding

_INPUT_ERROR, _INTERNAL_ERROR = 2, 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One claim file and what came of its audit."""

    path: Path
    expected: str | None
    result: AuditResult
    kept: bool
    """Whether the result is of an earlier run."""

    @property
    def name(self) -> str:
        """File name without suffix, by which policy and reports know the audit."""
        return self.path.stem

    @property
    def report(self) -> AuditReport | None:
        """None where the audit failed."""
        return self.result.report if isinstance(self.result, AuditDone) else None

    @property
    def as_expected(self) -> bool:
        """Whether the audit was made, and reached the expected verdict if there is one."""
        report = self.report
        return report is not None and self.expected in (None, report.verdict.outcome.value)

    @property
    def demonstrates(self) -> bool:
        """Whether the file is there to show a bad verdict; the policy then does not apply to it."""
        return self.expected not in (None, "consistent")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """All audits, and what the gate says of them."""

    checked: tuple[Checked, ...]
    gate: GateOutcome

    @property
    def failures(self) -> tuple[tuple[Checked, AuditFailed], ...]:
        """Audits that could not be made, and why."""
        return tuple((one, one.result) for one in self.checked if isinstance(one.result, AuditFailed))

    @property
    def reports(self) -> dict[str, AuditReport]:
        """Every report by name."""
        return {one.name: one.report for one in self.checked if one.report is not None}

    @property
    def held(self) -> dict[str, AuditReport]:
        """The reports that a reader is to worry about: all but demonstrations that went as expected."""
        return {
            one.name: one.report
            for one in self.checked
            if one.report is not None and not (one.demonstrates and one.as_expected)
        }

    @property
    def findings(self) -> tuple[GateFinding, ...]:
        """What the gate says, then unexpected verdicts, then audits that could not be made."""
        surprises = (
            _finding("DPA408", one, f"Expected {one.expected}, found {one.report.verdict.outcome.value}.")
            for one in self.checked
            if one.report is not None and not one.as_expected
        )
        failures = (_finding("DPA407", one, f"Not audited: {why.message}") for one, why in self.failures)
        return (*self.gate.findings, *surprises, *failures)

    @property
    def exit_code(self) -> int:
        """70 or 2 where an audit could not be made, else 1, 3 or 0 as the gate and expectations say."""
        if self.failures:
            return _INTERNAL_ERROR if any(why.internal for _, why in self.failures) else _INPUT_ERROR
        return GateOutcome(findings=self.findings).exit_code


def judge(checked: tuple[Checked, ...], settings: Config, *, today: date) -> CheckResult:
    """Hold the audits against the policy.

    Files that are there to show a bad verdict are not; they count as present where they are required.
    """
    shown = {one.name for one in checked if one.demonstrates and one.report is not None}
    required = tuple(name for name in settings.gate.required if name not in shown)
    gate = pass_gate(
        {one.name: one.report for one in checked if one.report is not None and not one.demonstrates},
        replace(settings.gate, required=required),
        waivers=settings.waivers,
        today=today,
    )
    return CheckResult(checked=checked, gate=gate)


def _finding(rule: str, one: Checked, sentence: str) -> GateFinding:
    return GateFinding(level="error", rule=rule, audit=one.name, sentence=sentence, file=str(one.path))
