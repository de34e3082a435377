from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dpaudit.audit_report import AuditReport, dump_json
from dpaudit.cli.main import run
from dpaudit.evidence import Evidence
from dpaudit.findings import Alternative
from dpaudit.verdict import decide


def judged(report: AuditReport) -> AuditReport:
    """Give the report the verdict that follows from its evidence."""
    return replace(report, verdict=decide(report.claim, report.evidence))


def unsure(report: AuditReport) -> AuditReport:
    """Make a report of an audit that saw nothing wrong, and could not have seen a thing of interest."""
    observed = replace(
        report.evidence.observed,
        contradicts_claim=False,
        tests=(),
        alternatives=(Alternative(name="a shuffle", power=0.2, steps_needed=900, of_interest=True),),
    )
    claimed = report.evidence.claimed
    evidence = Evidence(observed=observed, claimed=claimed, observed_interval=claimed)
    return judged(replace(report, evidence=evidence))


@pytest.fixture
def workplace(tmp_path, monkeypatch, report) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    good = judged(replace(unsure(report), evidence=replace(unsure(report).evidence, observed=None)))
    for name, one in (("bad", report), ("good", good), ("unsure", unsure(report))):
        (tmp_path / f"{name}.json").write_text(dump_json(one.to_json()))
    return tmp_path


WAIVED = ("DPA201", "DPA301", "DPA300")
"""All that speaks against bad.json."""


def edited(name: str, **changes: object) -> None:
    """Write bad.json with some of its top level changed."""
    Path(name).write_text(json.dumps(json.loads(Path("bad.json").read_text()) | changes))


def test_report_writes_html_and_pdf(workplace) -> None:
    assert run(["report", "bad.json", "good.json", "--pdf", "-o", "out"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "bad.html",
        "bad.pdf",
        "good.html",
        "good.pdf",
    ]


def test_report_shows_the_waivers_that_meet_a_finding(workplace) -> None:
    waiver = "rule = 'DPA201'\nreason = 'retraining'\nuntil = 2999-01-01\napproved_by = 'Privacy Office'\n"
    Path("dpaudit.toml").write_text(f"[[waiver]]\n{waiver}")
    assert run(["report", "bad.json", "good.json", "-o", "out"]) == 0
    assert "IN FORCE" in Path("out/bad.html").read_text()
    assert "IN FORCE" not in Path("out/good.html").read_text()
    Path("other.toml").write_text(f"[[waiver]]\n{waiver.replace('2999', '2001')}")
    assert run(["report", "bad.json", "--config", "other.toml", "-o", "out"]) == 0
    assert "EXPIRED" in Path("out/bad.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.json"], "absent.json"),
        (["cut.json"], "cut.json"),
        (["old.json"], "old.json: the report has schema version '0'"),
        (["later.json"], "later.json: the report has schema version '2.0'"),
        (["turned.json"], "turned.json: the verdict is 'consistent', but what follows from the evidence"),
        (["bare.json"], "bare.json: the report is malformed"),
        (["deep.json"], "deep.json is not JSON"),
        (["list.json"], "list.json is not a report"),
        (["bad.json", "bad.json"], "same name"),
        (["bad.json", "--no-html"], "nothing to write"),
    ],
)
def test_report_refuses_bad_input(workplace, capsys, arguments, message) -> None:
    Path("cut.json").write_text(Path("bad.json").read_text()[:-50])
    Path("deep.json").write_text("[" * 100_000)
    Path("list.json").write_text("[]")
    edited("old.json", schema_version="0")
    edited("later.json", schema_version="2.0")
    reasons = json.loads(Path("bad.json").read_text())["verdict"]["reasons"]
    edited("turned.json", verdict={"outcome": "consistent", "reasons": reasons})
    edited("bare.json", provenance={})
    assert run(["report", *arguments, "-o", "out"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not Path("out").exists()
    if arguments[-1] != "--no-html":
        assert run(["gate", *arguments]) == 2


def test_a_newer_minor_schema_still_opens(workplace) -> None:
    edited("newer.json", schema_version="1.3", something="new")
    assert run(["report", "newer.json", "-o", "out"]) == 0
    assert run(["gate", "newer.json"]) == 1


def test_another_version_may_have_decided_otherwise(workplace) -> None:
    record = json.loads(Path("bad.json").read_text())
    edited(
        "other.json",
        verdict=record["verdict"] | {"outcome": "inconclusive"},
        provenance=record["provenance"] | {"dpaudit": "0.0.1"},
    )
    assert run(["gate", "other.json"]) == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["good.json"], 0),
        (["bad.json"], 1),
        (["unsure.json"], 3),
        (["good.json", "unsure.json"], 3),
        (["bad.json", "unsure.json"], 1),
        (["bad.json", "--exit-zero"], 0),
        (["unsure.json", "--exit-zero"], 0),
        (["absent.json", "--exit-zero"], 2),
    ],
)
def test_gate_exit_codes(workplace, arguments, code) -> None:
    assert run(["gate", *arguments]) == code


@pytest.mark.parametrize("form", ["text", "json", "markdown", "sarif", "junit"])
def test_gate_speaks_every_format(workplace, capsys, form) -> None:
    assert run(["gate", "good.json", "bad.json", "--format", form]) == 1
    text = capsys.readouterr().out
    assert "DPA201" in text
    if form in ("json", "sarif"):
        json.loads(text)


def test_gate_appends_to_the_step_summary(workplace, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(workplace / "summary.md"))
    run(["gate", "bad.json"])
    run(["gate", "good.json"])
    summary = Path("summary.md").read_text()
    assert "dpaudit: failed" in summary
    assert "dpaudit: passed" in summary


def test_gate_annotates_files_in_a_workflow(workplace, monkeypatch, capsys) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    run(["gate", "bad.json"])
    assert "::error file=loaders/shuffled.py,title=DPA201 bad::Refuted: " in capsys.readouterr().err


def test_what_is_waived_is_suppressed_in_sarif_and_skipped_in_junit(workplace, capsys) -> None:
    waiver = '[[waiver]]\nrule = "{}"\nreason = "known"\nuntil = 2099-01-01\napproved_by = "Officer"\n'
    Path("dpaudit.toml").write_text("".join(map(waiver.format, WAIVED)))
    assert run(["gate", "bad.json", "--format", "sarif"]) == 0
    results = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert {result["ruleId"] for result in results} == set(WAIVED)
    assert all("by Officer: known" in result["suppressions"][0]["justification"] for result in results)
    assert {result["level"] for result in results} == {"note"}
    run(["gate", "bad.json", "--format", "junit"])
    text = capsys.readouterr().out
    assert "<skipped" in text
    assert "<failure" not in text


@pytest.mark.parametrize(
    ("outcome", "rule"), [("inconclusive", "DPA400"), ("unsupported", "DPA300"), ("unsupported", "DPA102")]
)
def test_verdicts_that_rest_on_more_than_the_report_holds_are_read(workplace, outcome, rule) -> None:
    verdict = {"outcome": outcome, "reasons": [{"rule": rule, "sentence": "No claim."}]}
    record = json.loads(Path("bad.json" if outcome == "inconclusive" else "good.json").read_text())
    Path("odd.json").write_text(json.dumps(record | {"verdict": verdict}))
    assert run(["gate", "odd.json"]) == (3 if outcome == "inconclusive" else 1)
    assert run(["report", "odd.json", "-o", "out"]) == 0


def test_markdown_of_the_gate_shows_waivers(workplace, capsys) -> None:
    waiver = '[[waiver]]\nrule = "DPA201"\nreason = "known"\nuntil = 2099-01-01\napproved_by = "Officer"\n'
    Path("dpaudit.toml").write_text(waiver)
    run(["gate", "bad.json", "good.json", "--format", "markdown"])
    text = capsys.readouterr().out
    assert text.count("### Waivers") == 1
    assert "IN FORCE" in text


def test_gate_takes_one_baseline_for_one_report_whatever_its_name(workplace, capsys) -> None:
    assert run(["gate", "bad.json", "--baseline", "good.json"]) == 1
    assert "DPA404" in capsys.readouterr().out


def test_gate_reads_policy_and_baseline(workplace, capsys) -> None:
    Path("dpaudit.toml").write_text("[gate]\nmax_epsilon = 1.0\n")
    assert run(["gate", "good.json"]) == 1
    assert "DPA401" in capsys.readouterr().out
    Path("dpaudit.toml").write_text("[gates]\n")
    assert run(["gate", "good.json"]) == 2
    Path("dpaudit.toml").unlink()
    assert run(["gate", "good.json", "--baseline", "bad.json"]) == 0


def test_explain(capsys) -> None:
    assert run(["explain", "dpa103"]) == 0
    assert capsys.readouterr().out.startswith("# DPA103: ")
    assert run(["explain"]) == 0
    assert "DPA201  a lower bound exceeds the claim" in capsys.readouterr().out
    assert run(["explain", "DPA1003"]) == 2
    assert "Did you mean" in capsys.readouterr().err
