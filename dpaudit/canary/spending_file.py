"""The spending file: an error budget that outlives the process, shared by all reruns of one gate."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dpaudit.canary.error_budget import ErrorBudget, spending
from dpaudit.errors import DpauditError

_FORGETS = "Restore it from version control or a backup: a new file would forget the attempts before."


class SpendingFileError(DpauditError):
    """A spending file that cannot be read or written, or is of another gate."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a gate: which one it is, and the level at which it is decided."""

    number: int
    level: float


def begin_attempt(path: str | Path, significance: float) -> Attempt:
    """Count one more attempt in the file, before anything of the run is looked at.

    Attempts that begin at the same time, in other threads or processes, get different numbers.

    Args:
      path: of the spending file; made on the first attempt.
      significance: of all attempts together, in (0, 1).

    Raises:
      SpendingFileError: the file is malformed, of another significance, or cannot be written.
      ValueError: significance out of range.
    """
    path = Path(path)
    with _locked(path):
        budget = read_budget(path) or ErrorBudget(significance)
        if budget.significance != significance:
            raise SpendingFileError(
                f"{str(path)!r} shares out a significance of {budget.significance:g}, not {significance:g}",
                "The level of a gate is fixed before its first attempt; use the same one, or another file.",
            )
        budget = budget.begin()
        _write(path, budget)
    return Attempt(budget.attempts, spending(significance, budget.attempts))


def settle_attempt(path: str | Path, attempt: Attempt, p_value: float) -> ErrorBudget:
    """Write down how an attempt ended.

    Returns:
      The budget with all attempts; `refuted` says whether the claim still stands.

    Raises:
      SpendingFileError: the file is gone or malformed, does not hold this attempt, or cannot be written.
      ValueError: p-value out of range.
    """
    path = Path(path)
    with _locked(path):
        budget = read_budget(path)
        if budget is None:
            raise SpendingFileError(f"{str(path)!r} was removed while attempt {attempt.number} ran", _FORGETS)
        try:
            settled = budget.settle(attempt.number, p_value)
        except ValueError as error:
            raise SpendingFileError(f"{str(path)!r}: {error}", _FORGETS) from error
        _write(path, settled)
    return settled


def read_budget(path: str | Path) -> ErrorBudget | None:
    """Read a spending file; None where there is none yet.

    Raises:
      SpendingFileError: the file is malformed or cannot be read.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("no JSON object")
        return ErrorBudget.from_json(record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SpendingFileError(f"{str(path)!r} is no spending file: {error}", _FORGETS) from error


def _write(path: Path, budget: ErrorBudget) -> None:
    """Write beside the file first, so that it is whole at any time."""
    text = json.dumps(budget.to_json(), indent=1) + "\n"
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, path)
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other attempts out; the lock is the system's, and falls with the process that holds it."""
    try:
        file = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise _cannot_write(path, error) from error
    with file:
        _wait_for_lock(file)
        yield


def _wait_for_lock(file: IO[str]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _cannot_write(path: Path, error: OSError) -> SpendingFileError:
    return SpendingFileError(
        f"cannot write the spending file {str(path)!r}: {error.strerror or error}",
        "Without it reruns cannot be counted; give a path in a folder that may be written to.",
    )
