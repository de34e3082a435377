"""The JUnit XML view: one test case for each audit, for CI systems that show nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dpaudit.audit_report import AuditReport
from dpaudit.policy import GateFinding
from dpaudit.report.printable import printable
from dpaudit.report.view import HEADLINES
from dpaudit.verdict import Outcome

if TYPE_CHECKING:
    from junitparser.junitparser import FinalResult


def to_junit(reports: Mapping[str, AuditReport], findings: Sequence[GateFinding] | None = None) -> str:
    """Give JUnit XML of reports by name: refuted and unsupported fail, inconclusive is an error.

    With findings of the gate these decide instead: a case fails by its errors, what is waived is
    skipped, and a finding on no report is a case of its own.
    """
    from junitparser import JUnitXml, TestCase, TestSuite

    suite = TestSuite("dpaudit")
    for name, report in reports.items():
        own = None if findings is None else [finding for finding in findings if finding.audit == name]
        case = TestCase(printable(name), classname=printable(report.target))
        case.result = _of_verdict(report) if own is None else _of_findings(own)
        suite.add_testcase(case)
    for finding in findings or ():
        if finding.audit not in reports:
            case = TestCase(
                printable(finding.audit or finding.rule), classname=printable(finding.file or "policy")
            )
            case.result = _of_findings([finding])
            suite.add_testcase(case)
    document = JUnitXml()
    document.add_testsuite(suite)
    text: str = document.tostring().decode("utf-8")  # type: ignore[no-untyped-call]
    return text if text.endswith("\n") else text + "\n"


def _of_verdict(report: AuditReport) -> list[FinalResult]:
    from junitparser import Error, Failure

    outcome = report.verdict.outcome
    if outcome is Outcome.CONSISTENT:
        return []
    kind = Error if outcome is Outcome.INCONCLUSIVE else Failure
    lines = [f"{reason.rule}: {reason.sentence}" for reason in report.verdict.reasons]
    return [_result(kind, HEADLINES[outcome], outcome.value, lines)]


def _of_findings(findings: Sequence[GateFinding]) -> list[FinalResult]:
    from junitparser import Error, Failure, Skipped

    for level, kind in (("error", Failure), ("inconclusive", Error), ("waived", Skipped)):
        lines = [f"{finding.rule}: {finding.sentence}" for finding in findings if finding.level == level]
        if lines:
            return [_result(kind, lines[0], level, lines)]
    return []


def _result(kind: type[FinalResult], message: str, name: str, lines: Sequence[str]) -> FinalResult:
    result = kind(printable(message), name)
    result.text = "\n".join(map(printable, lines))
    return result
