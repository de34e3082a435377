"""Where a finding belongs in the source: the file that an audit's target names, and the line in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path, PurePath

# FILE, FILE:NAME or FILE:NAME(arguments); a drive letter is part of the file.
_TARGET = re.compile(r"(?P<file>(?:[A-Za-z]:)?[^:]+)(?::(?P<name>\w+).*)?", re.DOTALL)
_SUFFIXES = (".py", ".ipynb", ".npz", ".csv", ".toml")


def source_place(target: str) -> tuple[str, int] | None:
    """Give file and line of a target; None where it names no file.

    The source is read, never run: a file that is gone or does not parse gives line 1.

    Args:
      target: as in a report: "loader.py", "loader.py:make(batch=64)", "trace.npz" ...
    """
    found = _TARGET.fullmatch(target)
    if found is None or PurePath(found["file"]).suffix.lower() not in _SUFFIXES:
        return None
    return PurePath(found["file"]).as_posix(), _line(Path(found["file"]), found["name"])


def _line(path: Path, name: str | None) -> int:
    """Find where a top-level name is defined first."""
    if name is None or path.suffix != ".py":
        return 1
    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return 1
    for statement in module.body:
        names = {getattr(statement, "name", None)}
        targets = [*getattr(statement, "targets", ()), getattr(statement, "target", None)]
        names |= {one.id for one in targets if isinstance(one, ast.Name)}
        if name in names:
            return statement.lineno
    return 1
