"""What an audit read: the files, directories and environment variables that a kept result stands on.

Modules that were imported are asked for their file; all else is noticed as it happens. What the audited
code reads through C libraries, from the network or in processes of its own, or through libraries from
environment variables, is not noticed, nor that it asks whether a file is there without opening it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import site
import sys
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path

from dpaudit.audit.noticing import stop_taking_notes, take_notes
from dpaudit.provenance import sha256

_LARGEST_HASHED = 64 << 20
"""Bytes; a larger file, such as a data set, is told by its size and time of change."""
_MOST_INPUTS = 20_000
"""An audit that reads more files is not kept: looking them all through again would take as long."""
_VARIABLE = "environment variable "
"""Of the keys that are no path."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Set for each audit by the number of jobs; they are no input."""


class InputWatch:
    """Notes what this process reads from here on; there is one at a time."""

    def __init__(self) -> None:
        self._started = time.time_ns()
        self._here = os.getcwd()
        self._variables = dict(os.environ)
        self._notes = take_notes()

    def stop(self) -> dict[str, str] | None:
        """Give the fingerprint of each input by path, or by name where it is an environment variable.

        None where they are too many, or where one changed since the watch began.
        """
        stop_taking_notes()
        notes = self._notes
        modules = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
        # Where modules are looked for, importlib and its like list directories without end.
        searched = {os.path.realpath(path or ".") for path in sys.path}
        listed = {os.path.realpath(path) for path in notes.listed} - searched
        read = (notes.opened | notes.missed | modules) - notes.written
        paths = listed | {os.path.realpath(path) for path in read if path}
        inputs = sorted(path for path in paths if not _foreign(path))
        if len(inputs) > _MOST_INPUTS or any(_changed_since(path, self._started) for path in inputs):
            return None
        marks = {self._portable(path): fingerprint(path) for path in inputs}
        return marks | {f"{_VARIABLE}{name}": _mark(self._variables.get(name)) for name in self._asked()}

    def _asked(self) -> set[str]:
        """Give the environment variables that code outside the libraries asked for."""
        asked = (names for code, names in self._notes.variables.items() if not _of_library(code.co_filename))
        return set().union(*asked) - set(THREAD_VARIABLES)

    def _portable(self, path: str) -> str:
        """Name a file below the working directory from there, so that a kept result may move with it."""
        return os.path.relpath(path, self._here) if path.startswith(self._here + os.sep) else path


def unchanged(inputs: Mapping[str, str]) -> bool:
    """Tell whether every input is as it was."""
    return all(_now(name) == mark for name, mark in inputs.items())


def _now(name: str) -> str:
    if name.startswith(_VARIABLE):
        return _mark(os.environ.get(name.removeprefix(_VARIABLE)))
    return fingerprint(name)


def fingerprint(path: str) -> str:
    """Tell a file by its content, a directory by the names in it."""
    try:
        status = os.stat(path)
        if os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if name != "__pycache__")
            return f"names {hashlib.sha256(repr(names).encode()).hexdigest()}"
        if status.st_size > _LARGEST_HASHED:
            return f"size {status.st_size} changed {status.st_mtime_ns}"
        return f"sha256 {sha256(Path(path))}"
    except OSError:
        return "gone"


def _mark(value: str | None) -> str:
    """Tell the value of a variable by its hash: it may be a secret."""
    return "unset" if value is None else hashlib.sha256(os.fsencode(value)).hexdigest()


def _changed_since(path: str, moment: int) -> bool:
    try:
        return not os.path.isdir(path) and os.stat(path).st_mtime_ns > moment
    except OSError:
        return False


def _foreign(path: str) -> bool:
    """Tell what is no input: libraries, which count by version, and what the system makes up."""
    if path.endswith((".pyc", ".nbi", ".nbc")) or _of_library(path):
        return True
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _of_library(path: str) -> bool:
    return path.startswith("<frozen ") or (os.path.realpath(path) + os.sep).startswith(_library_directories())


@functools.cache
def _library_directories() -> tuple[str, ...]:
    named = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    named += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[1])]
    system = ("/proc/", "/sys/", "/dev/")
    return (*(os.path.realpath(path) + os.sep for path in dict.fromkeys(named)), *system)
