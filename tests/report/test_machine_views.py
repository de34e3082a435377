from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from dpaudit.audit.rules import RULES, explain
from dpaudit.audit_report import AuditReport
from dpaudit.report.junit import to_junit
from dpaudit.report.pdf import to_pdf
from dpaudit.report.sarif import to_sarif
from dpaudit.report.source_place import source_place
from dpaudit.verdict import Outcome

HOSTILE = "<b> ]]> & #{} \\ $x$ `y` \x1b[31m"


def test_sarif_names_rule_file_and_lasting_fingerprint(report: AuditReport) -> None:
    log = to_sarif({"a": report})
    (run,) = log["runs"]
    result = run["results"][0]
    assert result["ruleId"] == "DPA201"
    assert result["level"] == "error"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "loaders/shuffled.py"
    assert run["tool"]["driver"]["rules"][0]["id"] == "DPA201"
    changed = replace(report, notes=("other",), title="other")
    again = to_sarif({"a": changed})["runs"][0]["results"][0]
    assert again["partialFingerprints"] == result["partialFingerprints"]


def test_sarif_of_a_consistent_audit_has_no_result(report: AuditReport) -> None:
    fine = replace(report, verdict=replace(report.verdict, outcome=Outcome.CONSISTENT))
    assert to_sarif({"a": fine})["runs"][0]["results"] == []


def test_sarif_uris_are_quoted(report: AuditReport) -> None:
    log = to_sarif({"a": replace(report, target="a b/<x>.py:make(1)")})
    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "a%20b/%3Cx%3E.py"


def test_sarif_points_at_the_line_that_defines_the_target(report: AuditReport, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("import os\n\nwidth = 3\n\n\ndef make(size):\n    raise SystemExit\n")
    (tmp_path / "broken.py").write_text("def make(:\n")
    lines = {
        "a.py": 1,
        "a.py:make": 6,
        "a.py:make(size='x:y')": 6,
        "a.py:width": 3,
        "a.py:absent": 1,
        "broken.py:make": 1,
        "gone.py:make": 1,
        "trace.npz": 1,
    }
    for target, line in lines.items():
        assert source_place(target) == (target.split(":")[0], line)
    for target in ("package.module:make", "reference DP-SGD, mlp on digits", ""):
        assert source_place(target) is None
    named = to_sarif({"a": replace(report, target="package.module:make")})
    (location,) = named["runs"][0]["results"][0]["locations"]
    assert location == {"logicalLocations": [{"fullyQualifiedName": "package.module:make"}]}


def test_junit_counts_failures_and_errors(report: AuditReport) -> None:
    outcomes = {outcome.value: replace(report.verdict, outcome=outcome) for outcome in Outcome}
    reports = {name: replace(report, verdict=verdict) for name, verdict in outcomes.items()}
    suite = ElementTree.fromstring(to_junit(reports)).find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("4", "2", "1")


def test_junit_is_xml_whatever_the_names(report: AuditReport) -> None:
    text = to_junit({HOSTILE: replace(report, target=HOSTILE)})
    case = ElementTree.fromstring(text).find("testsuite/testcase")
    assert case.get("name") == HOSTILE.replace("\x1b", "\ufffd")


def test_pdf_is_byte_stable_and_holds_hostile_strings_as_text(report: AuditReport) -> None:
    hostile = replace(report, title=HOSTILE, advice=(HOSTILE * 200,), target=HOSTILE)
    pdf = to_pdf(hostile)
    assert pdf.startswith(b"%PDF")
    assert pdf == to_pdf(hostile)
    assert pdf != to_pdf(report)


def test_every_rule_has_a_page() -> None:
    for rule in RULES.values():
        page = explain(rule)
        assert page.startswith(f"# {rule.id}: ")
        assert ".." not in page.replace("...", "")
