"""The published JSON schema fits the reports that are written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from dpaudit.audit_report import AuditReport, dump_json
from dpaudit.evidence import Evidence
from dpaudit.scheme import SCHEMES
from tests.sample_report import canary_report

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def as_written(report: AuditReport) -> dict:
    return json.loads(dump_json(report.to_json()))


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_reports_fit(report: AuditReport) -> None:
    VALIDATOR.validate(as_written(report))
    bare = replace(report, evidence=Evidence(), summary=None)
    VALIDATOR.validate(as_written(bare))
    VALIDATOR.validate(as_written(canary_report()))


def test_every_key_that_is_written_is_in_the_schema(report: AuditReport) -> None:
    record = as_written(report)
    assert record.keys() == SCHEMA["properties"].keys()
    for part in ("verdict", "provenance", "canary"):
        assert record[part].keys() == SCHEMA["properties"][part]["properties"].keys()
    canary = SCHEMA["properties"]["canary"]["properties"]
    for part in ("bounds", "scores", "mechanism"):
        assert record["canary"][part][0].keys() == canary[part]["items"]["properties"].keys()
    assert record["curves"][0].keys() == SCHEMA["properties"]["curves"]["items"]["properties"].keys()
    assert record["summary"].keys() == SCHEMA["properties"]["summary"]["oneOf"][1]["properties"].keys()
    epsilon = SCHEMA["properties"]["epsilons"]["items"]["properties"]
    assert record["epsilons"][0].keys() == epsilon.keys()


def test_every_scheme_is_in_the_schema() -> None:
    assert set(SCHEMA["$defs"]["scheme"]["properties"]["name"]["enum"]) == set(SCHEMES)


@pytest.mark.parametrize(
    ("part", "value"), [("verdict", {}), ("schema_version", "2"), ("epsilons", [{}]), ("sampling", {})]
)
def test_malformed_reports_do_not_fit(report: AuditReport, part, value) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(as_written(report) | {part: value})
