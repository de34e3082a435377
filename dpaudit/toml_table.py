"""Reading TOML so that a slip of the pen is an error that names the nearest known word."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dpaudit.errors import DpauditError, nearest_name


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file.

    Raises:
      DpauditError: it cannot be read, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise DpauditError(f"cannot read {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DpauditError(f"{path} is not TOML: {error}") from error


def refuse_unknown(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise DpauditError for a key that is not known."""
    known = list(known)
    for key in table:
        if key not in known:
            hint = nearest_name(key, known) or f"Known keys: {', '.join(sorted(known))}."
            raise DpauditError(f"unknown key {key!r} in {where}", hint)


def subtable(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Give a table of a file; an empty one where it is missing.

    Raises:
      DpauditError: something else has this name.
    """
    table = content.get(name, {})
    if not isinstance(table, Mapping):
        raise DpauditError(f"{name} = {table!r} must be a table", f"Write [{name}] on a line of its own.")
    return table
