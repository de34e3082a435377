"""Project configuration: `[tool.dpaudit]` of pyproject.toml, or the whole of dpaudit.toml.

[tool.dpaudit.gate]
max_epsilon = 8.0                  # largest epsilon that may be claimed
required = ["training"]            # audits that must be there, by file name without suffix
required_fields = ["unit"]         # fields of the claim that must not be missing
inconclusive = "inconclusive"      # exit code 3; or "error", "warn", "off"
rules = { DPA103 = "warn" }        # "error", "warn" or "off" for any rule; a single test counts if named

[[tool.dpaudit.waiver]]
rule = "DPA202"
reason = "retraining with Poisson batches is scheduled"
until = 2027-01-31
approved_by = "Privacy Office"
audit = "training"                 # optional: this audit only
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

from dpaudit.errors import DpauditError, nearest_name
from dpaudit.policy import EXPIRED_WAIVER, INCONCLUSIVE_LEVELS, LEVELS, GatePolicy, Waiver
from dpaudit.toml_table import read_toml, refuse_unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that a project configures."""

    gate: GatePolicy = field(default_factory=GatePolicy)
    waivers: tuple[Waiver, ...] = ()
    source: Path | None = None


def read_config(directory: Path, explicit: Path | None = None) -> Config:
    """Read `explicit`, else dpaudit.toml, else pyproject.toml of `directory`; else give the defaults.

    Raises:
      DpauditError: the file is not readable TOML, a key is unknown, or a value is of the wrong kind.
    """
    candidates = [explicit] if explicit else [directory / "dpaudit.toml", directory / "pyproject.toml"]
    for path in candidates:
        if not path.is_file():
            continue
        table: Mapping[str, Any] = read_toml(path)
        try:
            if path.name == "pyproject.toml":
                table = _inside(_inside(table, "tool"), "dpaudit")
            return _config(table, path)
        except DpauditError as error:
            raise DpauditError(f"{path}: {error.message}", error.hint) from error
    if explicit:
        raise DpauditError(f"no such file: {explicit}")
    return Config()


def _inside(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner: Mapping[str, Any] = table.get(name, {})
    _require_table(inner, name)
    return inner


def _config(table: Mapping[str, Any], path: Path) -> Config:
    refuse_unknown(table, ("gate", "waiver"), "[tool.dpaudit]")
    waivers = table.get("waiver", [])
    if not isinstance(waivers, list):
        raise DpauditError("waiver must be an array of tables", "Write [[tool.dpaudit.waiver]].")
    return Config(
        gate=_policy(table.get("gate", {})), waivers=tuple(_waiver(one) for one in waivers), source=path
    )


def _policy(table: Any) -> GatePolicy:
    _require_table(table, "gate")
    refuse_unknown(table, [one.name for one in fields(GatePolicy)], "[gate]")
    limit = table.get("max_epsilon")
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0
    ):
        raise DpauditError(f"max_epsilon = {limit!r} must be a number above 0")
    inconclusive = table.get("inconclusive", GatePolicy().inconclusive)
    if inconclusive not in INCONCLUSIVE_LEVELS:
        raise DpauditError(f"inconclusive = {inconclusive!r} must be one of {', '.join(INCONCLUSIVE_LEVELS)}")
    return GatePolicy(
        max_epsilon=None if limit is None else float(limit),
        required=_names(table, "required"),
        required_fields=_names(table, "required_fields"),
        inconclusive=inconclusive,
        rules=_rules(table.get("rules", {})),
    )


def _rules(table: Any) -> Mapping[str, str]:
    _require_table(table, "rules")
    for rule, level in table.items():
        _require_rule(rule)
        if level not in LEVELS:
            raise DpauditError(f"{rule} = {level!r} must be one of {', '.join(LEVELS)}")
    if table.get(EXPIRED_WAIVER, "error") != "error":
        raise DpauditError(
            f"{EXPIRED_WAIVER} = {table[EXPIRED_WAIVER]!r}: an expired waiver always fails",
            "Delete the waiver, or have it approved anew.",
        )
    return dict(table)


def _require_rule(rule: str) -> None:
    from dpaudit.audit.rules import RULES

    if rule not in RULES:
        raise DpauditError(f"no rule {rule!r}", nearest_name(rule, RULES) or "dpaudit explain lists them.")


def _waiver(table: Any) -> Waiver:
    _require_table(table, "waiver")
    names = [one.name for one in fields(Waiver)]
    refuse_unknown(table, names, "[[waiver]]")
    for name in names[:4]:
        if name not in table:
            raise DpauditError(f"a waiver lacks {name!r}", "A waiver has rule, reason, until, approved_by.")
        expected: type = date if name == "until" else str
        if not isinstance(table[name], expected) or isinstance(table[name], datetime):
            raise DpauditError(f"{name} = {table[name]!r} of a waiver must be a {expected.__name__}")
    if not isinstance(table.get("audit", ""), str):
        raise DpauditError(f"audit = {table['audit']!r} of a waiver must be a str")
    for name in ("reason", "approved_by"):
        if not table[name].strip():
            raise DpauditError(f"{name} of a waiver is empty", "Say why, and who answers for it.")
    _require_rule(table["rule"])
    return Waiver(**table)


def _names(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise DpauditError(f"{key} = {value!r} must be a list of strings")
    return tuple(value)


def _require_table(value: Any, name: str) -> None:
    if not isinstance(value, Mapping):
        raise DpauditError(f"{name} = {value!r} must be a table")
