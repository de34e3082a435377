"""What a report says of its own making."""

from __future__ import annotations

import pytest

from dpaudit.provenance import collect


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["/opt/venv/bin/dpaudit", "sampler", "a b.py"], ("dpaudit", "sampler", "a b.py")),
        (["/home/me/dpaudit/__main__.py", "check"], ("dpaudit", "check")),
        (["train.py", "--epochs", "3"], ("train.py", "--epochs", "3")),
        ([], ()),
    ],
)
def test_the_command_is_shown_as_one_would_type_it(command: list[str], shown: tuple[str, ...]) -> None:
    assert collect(command=command).command == shown


def test_the_time_can_be_fixed(monkeypatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert collect(command=()).created == "1970-01-01T00:00:00+00:00"
