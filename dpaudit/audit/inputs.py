"""What an audit read: the local files and directories that a kept result stands on.

Python tells every file that it opens and every directory that it lists (PEP 578); modules that were
imported are asked for their file. What the audited code reads through C libraries, from environment
variables, from the network or in processes of its own is not noticed.
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
from typing import Any

from dpaudit.provenance import sha256

_LARGEST_HASHED = 64 << 20
"""Bytes; a larger file, such as a data set, is told by its size and time of change."""
_MOST_INPUTS = 20_000
"""An audit that reads more files is not kept: looking them all through again would take as long."""
_WRITING = os.O_WRONLY | os.O_RDWR

_opened: set[str] = set()
_listed: set[str] = set()
_written: set[str] = set()
_state = {"hooked": False, "watching": False}


class InputWatch:
    """Notes what this process reads from here on; there is one at a time."""

    def __init__(self) -> None:
        for paths in (_opened, _listed, _written):
            paths.clear()
        self._started = time.time_ns()
        _state["watching"] = True
        if not _state["hooked"]:
            sys.addaudithook(_note)  # can never be taken away again
            _state["hooked"] = True

    def stop(self) -> dict[str, str] | None:
        """Give the fingerprint of each input by path.

        None where they are too many, or where one changed since the watch began.
        """
        _state["watching"] = False
        modules = {str(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
        # Where modules are looked for, importlib and its like list directories without end.
        searched = {os.path.realpath(path or ".") for path in sys.path}
        listed = {os.path.realpath(path) for path in _listed} - searched
        paths = listed | {os.path.realpath(path) for path in (_opened | modules) - _written if path}
        inputs = sorted(path for path in paths if os.path.exists(path) and not _foreign(path))
        if len(inputs) > _MOST_INPUTS or any(_changed_since(path, self._started) for path in inputs):
            return None
        return {_portable(path): fingerprint(path) for path in inputs}


def unchanged(inputs: Mapping[str, str]) -> bool:
    """Tell whether every input is as it was."""
    return all(fingerprint(path) == mark for path, mark in inputs.items())


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


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if not _state["watching"]:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, (str, bytes, os.PathLike)):
            (_written if flags & _WRITING else _opened).add(os.fsdecode(path))
    elif event in ("os.listdir", "os.scandir"):
        path = arguments[0]
        # The import system lists every directory it looks into; the modules it took are known anyway.
        if isinstance(path, (str, bytes, os.PathLike)) and not _importing():
            _listed.add(os.fsdecode(path))


def _importing() -> bool:
    return sys._getframe(2).f_code.co_filename.startswith("<frozen importlib")


def _portable(path: str) -> str:
    """Name a file below the working directory from there, so that a kept result may move with it."""
    here = os.getcwd()
    return os.path.relpath(path, here) if path.startswith(here + os.sep) else path


def _changed_since(path: str, moment: int) -> bool:
    return not os.path.isdir(path) and os.stat(path).st_mtime_ns > moment


def _foreign(path: str) -> bool:
    """Tell what is no input: libraries, which count by version, and what the system makes up."""
    if path.endswith((".pyc", ".nbi", ".nbc")):
        return True
    return (path + os.sep).startswith(_library_directories()) or not (
        os.path.isfile(path) or os.path.isdir(path)
    )


@functools.cache
def _library_directories() -> tuple[str, ...]:
    named = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    named += [*site.getsitepackages(), site.getusersitepackages(), str(Path(__file__).parents[1])]
    system = ("/proc/", "/sys/", "/dev/")
    return (*(os.path.realpath(path) + os.sep for path in dict.fromkeys(named)), *system)
