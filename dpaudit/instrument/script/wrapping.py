"""Wrap functions of a library while a program runs, and take that back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Around = Callable[..., Any]
"""Called with the original function and the arguments of each call; gives what the call shall give."""


class Wrappings:
    """Functions that stand in for others until `remove`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def wrap(self, owner: Any, name: str, around: Around) -> None:
        """Put `around` before the function or method `name` that the owner itself defines."""
        original = vars(owner)[name]

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            return around(original, *args, **kwargs)

        self.replace(owner, name, wrapped)

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute of a class or module."""
        own = vars(owner)
        undo = functools.partial(setattr, owner, name, own[name]) if name in own else None
        setattr(owner, name, value)
        self.then(undo or functools.partial(delattr, owner, name))

    def then(self, undo: Callable[[], None]) -> None:
        """Add something to be done by `remove`."""
        self._undo.append(undo)

    def wrap_below(self, kind: type, name: str, around: Around) -> None:
        """Wrap a method in each class from `kind` downwards that defines it."""
        for below in family(kind):
            if name in vars(below):
                self.wrap(below, name, around)

    def remove(self) -> None:
        """Put everything back."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()


def family(kind: Any) -> list[Any]:
    """Give a class and all classes below it."""
    return [kind, *(below for child in kind.__subclasses__() for below in family(child))]
