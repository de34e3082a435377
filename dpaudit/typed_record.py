"""Hold a record that was read from outside against the types that its dataclass declares."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def require_types(record: Any, place: str = "") -> None:
    """Refuse a dataclass that holds, at any depth, a value of another type than its field declares.

    An int passes as float, a bool as neither.

    Args:
      record: an instance of a dataclass.
      place: what the message calls it.

    Raises:
      ValueError: names the field and the value.
    """
    reader: Any = type(record)
    for name, declared in _types(reader).items():
        value, where = getattr(record, name), f"{place}.{name}" if place else name
        if not _fits(value, declared, where):
            raise ValueError(f"{where} cannot be {str(value)[:40]!r}")


@functools.cache
def _types(reader: Any) -> dict[str, Any]:
    declared = get_type_hints(reader)
    return {field.name: declared[field.name] for field in fields(reader)}


def _fits(value: Any, declared: Any, where: str) -> bool:
    """Tell whether a value is of a type; what is inside a dataclass raises by itself."""
    origin, inner = get_origin(declared), get_args(declared)
    if origin in (Union, UnionType):
        return any(_fits(value, one, where) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple) and _fit_all(value, inner, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0], where) and _fits(one, inner[1], f"{where}.{key}")
            for key, one in value.items()
        )
    if declared is None or declared is NoneType:
        return value is None
    if declared in (int, float):
        return isinstance(value, (int, declared)) and not isinstance(value, bool)
    if not isinstance(value, declared):
        return False
    if is_dataclass(value):
        require_types(value, where)
    return True


def _fit_all(values: tuple[Any, ...], inner: tuple[Any, ...], where: str) -> bool:
    wanted = inner[:1] * len(values) if inner[-1:] == (...,) else inner
    return len(values) == len(wanted) and all(
        _fits(value, one, f"{where}[{place}]")
        for place, (value, one) in enumerate(zip(values, wanted, strict=True))
    )
