from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpaudit.init.claim_template import Draft, Filled, literal, render
from dpaudit.init.script_facts import read_script


def found(text: str) -> dict[str, object]:
    return {name: one.value for name, one in read_script(text).found.items()}


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("1.5", 1.5),
        ("SIGMA", 2.0),
        ("args.sigma", 0.7),
        ("SIGMA / 4 + 1", 1.5),
        ("twice", None),
        ("unknown", None),
        ("compute()", None),
        ("-1.0", None),
        ("True", None),
        ("'1.0'", None),
        ("1e999", None),
        ("1 / 0", None),
        ("circle", None),
    ],
)
def test_values_are_resolved_where_the_text_tells_them(argument: str, value: float | None) -> None:
    text = (
        "SIGMA = 2.0\ntwice = 1.0\ntwice = 3.0\ncircle = other\nother = circle\n"
        "parser.add_argument('--sigma', default=0.7)\n"
        f"engine.make_private(noise_multiplier={argument})\n"
    )
    assert found(text).get("noise_multiplier") == value


def test_a_parameter_or_loop_variable_is_no_constant() -> None:
    assert found("def f(s):\n    make_private(noise_multiplier=s)\ns = 1.0\n") == {}
    assert found("for s in [1.0, 2.0]:\n    make_private(noise_multiplier=s)\ns = 1.0\n") == {}


def test_contradictions_are_said_and_left_out() -> None:
    facts = read_script("make_private(noise_multiplier=1.0)\nmake_private(noise_multiplier=2.0)\n")
    assert "noise_multiplier" not in facts.found
    assert facts.contradictions[0].startswith("noise_multiplier: 1.0 (line 1")


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("EPOCHS = 5\n", 5),
        ("parser.add_argument('--num-epochs', default=7)\n", 7),
        ("parser.add_argument('--n', dest='epochs', default=7)\n", 7),
        ("EPOCHS = 0\n", None),
        ("make_private_with_epsilon(epochs=3)\nEPOCHS = 5\n", 3),
    ],
)
def test_epochs(text: str, epochs: int | None) -> None:
    assert found(text).get("epochs") == epochs


def test_the_private_loader_is_the_last_of_what_is_returned() -> None:
    assert read_script("m, o, loader = e.make_private(module=m)\n").private_loader == "loader"
    assert read_script("m, o, c, loader = e.make_private(module=m)\n").private_loader == "loader"
    assert read_script("def f():\n    m, o, loader = e.make_private()\n").private_loader == ""


def test_nothing_is_executed() -> None:
    read_script("import os\nos._exit(3)\n")


@given(st.text(), st.text(), st.text())
def test_any_text_gives_a_file_that_is_toml(title: str, target: str, remark: str) -> None:
    draft = Draft(
        target=target,
        title=title,
        claim={"unit": Filled(literal(title), remark)},
        remarks=(remark, title),
    )
    read = tomllib.loads(render(draft))
    assert set(read) <= {"title", "target", "claim", "audit"}
    assert set(read["claim"]) == {"unit"}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_literals_keep_their_value(value: float | bool) -> None:
    assert tomllib.loads(f"x = {literal(value)}")["x"] == value


def test_shipped_scripts_are_read() -> None:
    path = Path(__file__).parents[2] / "audits" / "loaders" / "opacus_thrown_away.py"
    facts = read_script(path.read_text())
    assert {name: one.value for name, one in facts.found.items()} == {
        "noise_multiplier": 1.0,
        "clip_norm": 1.0,
        "batch_size": 64,
    }
