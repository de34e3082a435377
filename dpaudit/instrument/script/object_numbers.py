"""Number objects that come again and again, without keeping them alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any


class ObjectNumbers:
    """Numbers from 1, in the order in which objects first come; an object is told by its identity."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[int, Callable[[], Any]]] = {}
        self._count = 0

    def known(self, one: Any) -> int | None:
        """Give the number of an object; None for one that got the memory of a dead one, or never came."""
        found = self._found.get(id(one))
        return found[0] if found is not None and found[1]() is one else None

    def number(self, one: Any) -> int:
        """Give the number of an object, a new one if it has none."""
        number = self.known(one)
        if number is None:
            self._count = number = self._count + 1
            try:
                alive: Callable[[], Any] = weakref.ref(one)
            except TypeError:
                alive = lambda: one  # noqa: E731
            self._found[id(one)] = number, alive
        return number


def first_parameter(optimizer: Any) -> Any:
    """Give the first parameter that an optimizer of torch or Keras moves; None if it tells none."""
    for group in getattr(optimizer, "param_groups", None) or ():
        return next(iter(group["params"]), None)
    return next(iter(getattr(optimizer, "_trainable_variables", None) or ()), None)
