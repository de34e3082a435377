from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from dpaudit.typed_record import require_types
from tests.sample_report import sample_report


@dataclass(frozen=True)
class Inner:
    size: int


@dataclass(frozen=True)
class Outer:
    number: float = 1.0
    name: str = ""
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    pairs: tuple[tuple[int, float], ...] = ()
    table: Mapping[str, str] | None = None
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("field", "fine", "wrong"),
    [
        ("number", 3, True),
        ("number", float("inf"), "inf"),
        ("name", "x", None),
        ("kind", "b", "c"),
        ("maybe", None, 1.5),
        ("pairs", ((1, 2.0), (3, 4)), ((1, 2.0), (3,))),
        ("pairs", (), [(1, 2.0)]),
        ("table", {"a": "b"}, {"a": 1}),
        ("inner", Inner(1), Inner("1")),
    ],
)
def test_every_field_must_be_of_its_type(field: str, fine: Any, wrong: Any) -> None:
    require_types(Outer(**{field: fine}))
    with pytest.raises(ValueError, match=field):
        require_types(Outer(**{field: wrong}))


def test_the_sample_report_is_of_its_types() -> None:
    require_types(sample_report())
