"""Claim files: one TOML file that says what is claimed, of what, and how to audit it.

kind = "sampler"                   # optional
title = "Digits, shuffled"
target = "loaders/shuffled.py"     # relative to this file
expected = "refuted"               # optional: the verdict that `dpaudit check` must reach

[claim]
delta = 1e-5
noise_multiplier = 1.0
epochs = 10
num_records = 1797
scheme = { name = "poisson", batch_size = 64 }

[audit]                            # optional
steps = 400
runs = 1
seed = 0
significance = 1e-3
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dpaudit.claim import PrivacyClaim
from dpaudit.errors import ClaimError, DpauditError, nearest_name
from dpaudit.toml_table import read_toml, refuse_unknown, subtable

_OUTCOMES = ("consistent", "unsupported", "refuted", "inconclusive")
_TOP_LEVEL = ("kind", "title", "target", "expected", "claim", "audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSettings:
    """How an audit of a loader is run.

    Raises:
      ClaimError: a value is out of range or of the wrong type.
    """

    steps: int | None = None
    """Steps to record in each run; None: enough for a verdict."""
    runs: int = 1
    """Recordings with different seeds; two or more show a sampler that ignores its seed."""
    seed: int = 0
    batch_size: int | None = None
    """Cuts the stream of a bare sampler, which yields one record at a time, into batches."""
    significance: float = 1e-3
    """Family-wise error of the sampling tests, in (0, 0.5]."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("runs", 1), ("seed", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is None and name in ("steps", "batch_size"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ClaimError(f"{name} = {value!r} must be a whole number >= {least}")
        significance = self.significance
        if not isinstance(significance, float) or not 0 < significance <= 0.5:
            raise ClaimError(f"significance = {significance!r} must be in (0, 0.5]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFile:
    """The content of one claim file."""

    path: Path | None
    """None for a claim that was made of flags alone."""
    claim: PrivacyClaim
    title: str = ""
    target: str | None = None
    """Loader to audit, its path resolved against the file's directory; None where not given."""
    expected: str | None = None
    settings: AuditSettings


def read_claim_file(path: Path) -> ClaimFile:
    """Read a claim file.

    Raises:
      ClaimError: the file is missing or not TOML, a key is unknown (the nearest known one is
        suggested), or a value is wrong. The message begins with the file's name.
    """
    return claim_file_of(path, load_toml(path))


def claim_file_of(path: Path, content: Mapping[str, Any]) -> ClaimFile:
    """Make a claim file of what its TOML says; see `read_claim_file`."""
    try:
        return _interpret(path, content)
    except DpauditError as error:
        raise ClaimError(f"{path}: {error.message}", error.hint) from error


def load_toml(path: Path) -> dict[str, Any]:
    """Read a claim file's TOML, whatever it says.

    Raises:
      ClaimError: the file is missing or not TOML.
    """
    try:
        return read_toml(path)
    except DpauditError as error:
        raise ClaimError(error.message, error.hint) from error


def _interpret(path: Path, content: Mapping[str, Any]) -> ClaimFile:
    refuse_unknown(content, _TOP_LEVEL, "the file")
    if content.get("kind", "sampler") != "sampler":
        raise ClaimError(f"kind = {content['kind']!r}: not a claim on a data loader")
    target = _string(content, "target")
    title, expected = title_and_expected(content)
    settings = subtable(content, "audit")
    refuse_unknown(settings, [field.name for field in fields(AuditSettings)], "[audit]")
    return ClaimFile(
        path=path,
        claim=PrivacyClaim.from_table(subtable(content, "claim")),
        title=title,
        target=None if target is None else resolve_beside(target, path.parent),
        expected=expected,
        settings=AuditSettings(**settings),
    )


def title_and_expected(content: Mapping[str, Any]) -> tuple[str, str | None]:
    """Read what every kind of claim file may say at its top: a title, and the verdict that must come.

    Raises:
      ClaimError: one of them is no string, or no verdict.
    """
    expected = _string(content, "expected")
    if expected is not None and expected not in _OUTCOMES:
        raise ClaimError(
            f"unknown verdict expected = {expected!r}",
            nearest_name(expected, _OUTCOMES) or f"Known: {', '.join(_OUTCOMES)}.",
        )
    return _string(content, "title") or "", expected


def _string(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is not None and not isinstance(value, str):
        raise ClaimError(f"{name} = {value!r} must be a string")
    return value


def resolve_beside(target: str, directory: Path) -> str:
    """Resolve the file part of `file.py:name`, or a trace, against the claim file's directory."""
    file, colon, name = target.partition(":")
    is_file = file.endswith((".py", ".npz")) or (directory / file).is_dir()
    if not is_file or Path(file).is_absolute():
        return target
    return f"{directory / file}{colon}{name}"
