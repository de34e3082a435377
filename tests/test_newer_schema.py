from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from dpaudit.audit_report import AuditReport
from dpaudit.errors import DpauditError
from dpaudit.newer_schema import is_newer_minor
from tests.sample_report import canary_report, sample_report

Path = tuple[str | int, ...]
REPORTS = {"sampler": sample_report(), "canary": canary_report()}


def objects(value: Any, path: Path = ()) -> Iterator[Path]:
    """Give the place of every object, and of the first one of every list."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from objects(inner, (*path, key))
    elif isinstance(value, list) and value:
        yield from objects(value[0], (*path, 0))


def at(record: Any, path: Path) -> Any:
    for key in path:
        record = record[key]
    return record


def is_scheme(record: Any, path: Path) -> bool:
    return bool({"scheme", "compatible_schemes", "parameters"} & set(map(str, path[-2:])))


@pytest.mark.parametrize("kind", REPORTS)
def test_a_newer_minor_may_add_a_key_to_every_record(kind: str) -> None:
    report = REPORTS[kind]
    record = json.loads(json.dumps(report.to_json())) | {"schema_version": "1.7"}
    for path in objects(record):
        if path[-1:] in (("packages",), ("input_sha256",)):  # any key is right there
            continue
        changed = copy.deepcopy(record)
        at(changed, path)["a_new_key"] = {"of": ["a later version"]}
        if is_scheme(record, path):
            with pytest.raises(DpauditError, match="a_new_key"):
                AuditReport.from_json(changed)
        else:
            assert AuditReport.from_json(changed) == report, path


@pytest.mark.parametrize("kind", REPORTS)
def test_a_key_that_is_gone_is_a_clear_error_or_was_optional(kind: str) -> None:
    report = REPORTS[kind]
    record = json.loads(json.dumps(report.to_json()))
    refused = 0
    for path in objects(record):
        for key in at(record, path):
            changed = copy.deepcopy(record)
            del at(changed, path)[key]
            try:
                AuditReport.from_json(changed)
            except DpauditError as error:
                refused += 1
                assert error.message  # noqa: PT017 - some keys are optional, so raises() does not fit
    assert refused > 50


@pytest.mark.parametrize(
    ("version", "ours", "newer"),
    [("1", "1", False), ("1.1", "1", True), ("1.1", "1.1", False), ("1.10", "1.9", True), ("2.1", "1", False),
     ("1.x", "1", False), ("", "1", False)],
)  # fmt: skip
def test_versions(version: str, ours: str, newer: bool) -> None:
    assert is_newer_minor(version, ours) is newer
