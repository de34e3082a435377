from __future__ import annotations

import json
import os

import pytest

from dpaudit.audit_report import AuditReport, dump_json, read_report, write_whole
from dpaudit.errors import DpauditError


def test_json_round_trip(report: AuditReport) -> None:
    text = dump_json(report.to_json())
    assert AuditReport.from_json(json.loads(text)) == report
    assert "Infinity" not in text


def test_keys_that_tools_rely_on(report: AuditReport) -> None:
    record = report.to_json()
    assert record["schema_version"] == "1"
    assert record["kind"] == "sampler"
    assert record["verdict"]["outcome"] == "refuted"
    assert {"rule", "sentence"} <= record["verdict"]["reasons"][0].keys()
    sampling = record["sampling"]
    assert sampling["scheme"] == {
        "name": "shuffle",
        "batch_size": 50,
        "reshuffled_each_epoch": True,
        "drop_last": False,
    }
    assert sampling["compatible"] == ["shuffle", "shuffle"]
    assert {"claimed", "estimate", "low", "high"} <= sampling["rate"].keys()
    assert {"rule", "name", "statistic", "p_value", "adjusted_p_value", "rejected"} <= sampling["tests"][
        0
    ].keys()
    assert [row["role"] for row in record["epsilons"]] == ["claimed", "observed", "open", "open"]
    claimed, observed = record["epsilons"][:2]
    assert (claimed["scheme"], observed["scheme"], observed["upper"]) == ("poisson", "shuffle", "inf")
    assert {"lower", "upper", "delta", "adjacency", "method", "basis"} <= claimed.keys()
    assert {"name", "value", "status"} <= record["fields"][0].keys()
    assert {"dpaudit", "packages", "git_commit", "git_dirty", "command", "seed", "input_sha256"} <= record[
        "provenance"
    ].keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.pop("verdict"), "verdict"),
        (lambda record: record.update(schema_version="2"), "schema version"),
        (lambda record: record["epsilons"][0].update(lower=3.0), "lower"),
        (lambda record: record["sampling"]["scheme"].update(name="poison"), "poison"),
        (lambda record: record["verdict"].update(outcome="fine"), "fine"),
        (lambda record: record["claim"].update(epsilom=1), "epsilom"),
        (lambda record: record.update(kind="samples"), "samples"),
        (lambda record: record["curves"][0].update(axis="alpha"), "alpha"),
        (lambda record: record["curves"][0]["upper"].pop(), "differ in number"),
        (lambda record: record["canary"]["bounds"][0].pop("decides"), "decides"),
        (lambda record: record["summary"]["overlaps"].append([1]), "malformed"),
        (lambda record: record["canary"]["scores"][0].update(bin_edges=[1, 0]), "must rise"),
        (lambda record: record["canary"]["scores"][0].update(included=[]), "one count for each bin"),
        (lambda record: record["summary"].update(batch_size_bin=0), "bins of width 0"),
        (lambda record: record["curves"][0]["at"].__setitem__(0, -1), "cannot be at"),
        (lambda record: record["sampling"].update(steps=-1), "below 0"),
        (lambda record: record["sampling"]["rate"].update(claimed=-1), "sampling rate cannot be -1"),
        (lambda record: record["sampling"].update(draws="many"), "malformed"),
        (lambda record: record["sampling"]["tests"][0].update(p_value=None), "p_value cannot be 'None'"),
        (lambda record: record["fields"][0].update(value=[]), r"fields\[0\].value cannot be '\[\]'"),
        (lambda record: record["verdict"]["reasons"][0].update(rule=5), r"reasons\[0\].rule cannot be '5'"),
        (lambda record: record.update(title=5), "title cannot be '5'"),
        (lambda record: record.update(notes=[None]), "notes cannot be"),
        (lambda record: record["provenance"].update(packages=5), "provenance.packages cannot be '5'"),
        (lambda record: record["epsilons"][1].update(role="claimed"), "epsilons have the roles"),
        (lambda record: record["epsilons"][0].update(role="promised"), "epsilons have the roles"),
    ],
)
def test_edited_reports_are_refused(report: AuditReport, tmp_path, change, message) -> None:
    record = report.to_json()
    change(record)
    path = tmp_path / "report.json"
    path.write_text(dump_json(record))
    with pytest.raises(DpauditError, match=message):
        read_report(path)


@pytest.mark.parametrize("text", ["", '{"schema_version": "1"', "[]", "nothing"])
def test_what_is_no_report_is_refused(tmp_path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(DpauditError, match=r"report\.json"):
        read_report(path)


def test_an_older_report_opens_without_what_it_lacks(report: AuditReport) -> None:
    record = report.to_json()
    del record["curves"]
    for name in ("overlaps", "overlap_bin", "epoch", "places"):
        del record["summary"][name]
    older = AuditReport.from_json(record)
    assert older.curves == ()
    assert (older.summary.overlaps, older.summary.places, older.summary.epoch) == ((), (), 0)
    assert older.summary.batch_sizes == report.summary.batch_sizes


def test_a_newer_minor_schema_opens(report: AuditReport) -> None:
    record = report.to_json() | {"schema_version": "1.4", "something_new": 1}
    assert AuditReport.from_json(record) == report


def test_a_file_is_written_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "out.txt"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    with pytest.raises(DpauditError, match="cannot write"):
        write_whole(tmp_path / "absent" / "out.txt", "three")
    assert os.listdir(tmp_path) == ["out.txt"]
