"""Reports of a newer minor schema: what they say beyond ours is left out, the rest means the same.

A minor version adds keys to the records named here and changes none. Schemes are not among them: a
parameter more is another scheme, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from dpaudit.canary_findings import MechanismRow
from dpaudit.claim import PrivacyClaim
from dpaudit.findings import Alternative, HypothesisTest, ObservedScheme, RateEstimate
from dpaudit.provenance import Provenance

_RECORDS: tuple[tuple[tuple[str, ...], type, tuple[str, ...]], ...] = (
    (("claim",), PrivacyClaim, ()),
    (("sampling",), ObservedScheme, ("compatible_schemes",)),
    (("sampling", "rate"), RateEstimate, ()),
    (("sampling", "tests"), HypothesisTest, ()),
    (("sampling", "alternatives"), Alternative, ()),
    (("canary", "tests"), HypothesisTest, ()),
    (("canary", "alternatives"), Alternative, ()),
    (("canary", "mechanism"), MechanismRow, ()),
    (("provenance",), Provenance, ()),
)
"""Path, the class that reads the record, and keys that only the JSON has."""
_FIELD_KEYS = ("name", "label", "value", "status", "remark")


def is_newer_minor(version: str, ours: str) -> bool:
    """Tell whether "1.2" is a later minor version of "1" or "1.1"."""
    theirs, own = version.split("."), ours.split(".")
    if theirs[0] != own[0] or len(theirs) < 2 or not theirs[1].isdigit():
        return False
    return int(theirs[1]) > (int(own[1]) if len(own) > 1 else 0)


def without_novelties(record: dict[str, Any]) -> dict[str, Any]:
    """Give a report's JSON without the keys that this version does not know; the argument stays as it is."""
    plain: dict[str, Any] = _copied(record)
    for path, reader, more in _RECORDS:
        _keep(plain, path, {field.name for field in fields(reader)} | set(more))
    _keep(plain, ("fields",), set(_FIELD_KEYS))
    return plain


def _keep(record: dict[str, Any], path: tuple[str, ...], known: set[str]) -> None:
    for one in _at(record, path):
        for key in [key for key in one if key not in known]:
            del one[key]


def _at(record: Any, path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Give the record at a path, or each of them where there is a list."""
    for key in path:
        record = record.get(key) if isinstance(record, dict) else None
    for one in record if isinstance(record, list) else [record]:
        if isinstance(one, dict):
            yield one


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
