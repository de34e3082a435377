"""Notes what this process reads: files, directories, environment variables, modules that it missed.

Python tells every file that it opens and every directory that it lists (PEP 578), whether they are there
or not. A last finder is asked for what no other found. Environment variables count where code outside the
libraries asks for them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR
_MAPPINGS = ("os.py", "_collections_abc.py", "<frozen os>", "<frozen _collections_abc>")


@dataclass(slots=True)
class Notes:
    """What was noticed; paths are absolute, as they were when they were used."""

    opened: set[str] = field(default_factory=set)
    listed: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    missed: set[str] = field(default_factory=set)
    """Files that modules which were not found would have had."""
    variables: dict[CodeType, set[str]] = field(default_factory=dict)
    """Names of environment variables, by the code that asked for them."""


_watch: dict[str, Notes] = {}
"""Holds the notes that are being taken, if any, under "now"."""
_hooked: list[Callable[..., Any]] = []


def take_notes() -> Notes:
    """Note what is read from here on, in new notes."""
    if not _hooked:
        sys.addaudithook(_note)  # can never be taken away again
        _hooked.append(_note)
        _listen_to_variables()
    _watch["now"] = Notes()
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _LastFinder)]
    sys.meta_path.append(_LastFinder())
    return _watch["now"]


def stop_taking_notes() -> None:
    """Note nothing more."""
    _watch.clear()
    sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _LastFinder)]


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    notes = _watch.get("now")
    if notes is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, (str, bytes, os.PathLike)):
            (notes.written if flags & _WRITING else notes.opened).add(_absolute(path))
    elif event in ("os.listdir", "os.scandir"):
        path = arguments[0]
        # The import system lists every directory it looks into; the modules it took are known anyway.
        if isinstance(path, (str, bytes, os.PathLike)) and not _importing():
            notes.listed.add(_absolute(path))


def _importing() -> bool:
    return sys._getframe(2).f_code.co_filename.startswith("<frozen importlib")


def _absolute(path: str | bytes | os.PathLike[Any]) -> str:
    try:
        return os.path.join(os.getcwd(), os.fsdecode(path))
    except OSError:  # the working directory is gone
        return os.fsdecode(path)


class _LastFinder(MetaPathFinder):
    """Finds nothing; notes where a module that nobody found could have been."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        notes = _watch.get("now")
        if notes is not None:
            name = fullname.rpartition(".")[2]
            for directory in filter(os.path.isdir, (one or "." for one in (path or sys.path))):
                place = _absolute(os.path.join(directory, name))
                notes.missed.update((place, f"{place}.py"))
        return None


def _listen_to_variables() -> None:
    mapping: Any = type(os.environ)
    plain = mapping.__getitem__

    def noted(self: Any, key: Any) -> Any:
        notes = _watch.get("now")
        if notes is not None and self is os.environ and isinstance(key, str):
            notes.variables.setdefault(_asking(), set()).add(key)
        return plain(self, key)

    mapping.__getitem__ = noted


def _asking() -> CodeType:
    """Give the code that asks, behind the methods of the mapping."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(_MAPPINGS):
        frame = frame.f_back
    return frame.f_code
