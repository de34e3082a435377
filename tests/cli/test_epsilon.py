from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner, Result

from dpaudit.cli import main as program
from dpaudit.cli.epsilon import command
from dpaudit.cli.scheme_argument import parse_scheme
from dpaudit.errors import DpauditError
from dpaudit.interval import format_upper
from dpaudit.scheme import FixedSize, Shuffle, WeightedPoisson

RUN = ["--batch-size", "10", "--num-records", "100", "--epochs", "2", "--delta", "1e-5"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def record() -> dict:
    result = run(*RUN, "--noise-multiplier", "1", "--format", "json", "--scheme", "block_shuffle(10, 20)")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_json_keeps_the_contract(record: dict) -> None:
    assert (record["schema_version"], record["kind"]) == ("1", "epsilon")
    assert record["claim"]["sampling_rate"] == 0.1
    assert record["claim"]["steps"] == 20
    roles = [entry["role"] for entry in record["epsilons"]]
    assert roles == ["claimed"] + ["alternative"] * (len(roles) - 1)
    for entry in record["epsilons"]:
        assert 0 <= entry["lower"] <= float(entry["upper"])
        assert (entry["delta"], entry["adjacency"]) == (1e-5, "zero_out")
        assert entry["method"]
        assert entry["basis"] in ("accountant", "theorem")
    assert record["provenance"]["dpaudit"]


def test_every_scheme_stands_against_the_claim(record: dict) -> None:
    found = {entry["scheme"]: entry for entry in record["epsilons"]}
    claimed = found["poisson"]
    assert (
        found["balls_in_bins"]["standing"] == "within" or found["balls_in_bins"]["upper"] > claimed["upper"]
    )
    assert found["shuffle"]["standing"] == "violates"
    assert found["shuffle"]["lower"] > claimed["upper"]
    assert {"sequential", "fixed_size", "truncated_poisson", "buffer_shuffle", "block_shuffle"} <= set(found)


@pytest.mark.parametrize("target", [None, pytest.param("4", marks=pytest.mark.slow)])
def test_text_is_a_table_of_80_columns(target: str | None) -> None:
    result = run(*RUN, "--noise-multiplier", "1", *(["--target-epsilon", target] if target else []))
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert ("Noise for 4" in result.stdout) is (target is not None)
    assert "refuted, x" in result.stdout
    assert "The same on a logarithmic axis" in result.stdout
    assert ("If you keep shuffling, " in " ".join(result.stdout.split())) is (target is not None)
    assert result.stderr == ""


@pytest.mark.slow
def test_target_alone_finds_the_noise() -> None:
    result = run(*RUN, "--target-epsilon", "4", "--format", "json")
    record = json.loads(result.stdout)
    claimed = record["epsilons"][0]
    assert claimed["upper"] == pytest.approx(4, rel=5e-3)
    assert claimed["upper"] <= 4
    assert claimed["noise_multiplier_for_target"] == pytest.approx(record["claim"]["noise_multiplier"])
    shuffled = next(entry for entry in record["epsilons"] if entry["scheme"] == "shuffle")
    assert shuffled["noise_multiplier_for_target"] > claimed["noise_multiplier_for_target"]
    assert any(sentence.startswith("If you keep shuffling, ") for sentence in record["advice"])
    noises = {format_upper(row["noise_multiplier_for_target"]) for row in record["epsilons"]}
    told = {sentence.split("noise multiplier ")[1].split(":")[0] for sentence in record["advice"]}
    assert told <= noises  # the table's own numbers: nothing is rounded twice


def test_a_rate_alone_leaves_out_what_needs_the_size() -> None:
    result = run("--sampling-rate", "0.1", "--steps", "20", "--delta", "1e-5", "--noise-multiplier", "1")
    assert "shuffle, fresh each epoch" in result.stdout
    assert "cut at" not in result.stdout
    assert "--num-records" in result.stdout


def test_markdown_and_output_file(tmp_path) -> None:
    path = tmp_path / "table.md"
    result = run(*RUN, "--noise-multiplier", "2", "--format", "markdown", "-o", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    text = path.read_text()
    assert text.startswith("## Epsilon at delta")
    assert text.count("\n| --- |") == 1


@pytest.mark.parametrize(
    ("over", "suffix", "magic"),
    [
        ("delta", "svg", b"<?xml"),
        pytest.param("steps", "png", b"\x89PNG", marks=pytest.mark.slow),
        pytest.param("sigma", "pdf", b"%PDF", marks=pytest.mark.slow),
    ],
)
def test_figure(tmp_path, over: str, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"curves.{suffix}"
    result = run(*RUN, "--noise-multiplier", "2", "--figure", str(path), "--over", over)
    assert result.exit_code == 0
    assert path.read_bytes().startswith(magic)


@pytest.mark.slow
def test_accountants_are_asked_on_request() -> None:
    result = run(*RUN, "--noise-multiplier", "1", "--accountants")
    assert "dp-accounting RDP" in result.stdout
    assert "%" in result.stdout


def test_what_has_no_theorem_is_said() -> None:
    result = run(*RUN, "--noise-multiplier", "1", "--adjacency", "add_or_remove_one")
    assert result.exit_code == 0
    assert "no theorem" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--noise-multiplier", "0", *RUN], "above 0"),
        (["--noise-multiplier", "-1", *RUN], "above 0"),
        (["--noise-multiplier", "nan", *RUN], "above 0"),
        (["--noise-multiplier", "1", *RUN, "--delta", "1"], "between 0 and 1"),
        (["--noise-multiplier", "1", *RUN, "--delta", "nan"], "between 0 and 1"),
        (["--noise-multiplier", "1", *RUN, "--epochs", "1.5"], "1.5"),
        (["--noise-multiplier", "1", *RUN, "--steps", "3"], "either --steps or --epochs"),
        (["--noise-multiplier", "1", *RUN, "--batch-size", "101"], "larger than the 100 records"),
        (["--noise-multiplier", "1", *RUN, "--sampling-rate", "1.5"], "up to 1"),
        (["--noise-multiplier", "1", "--steps", "3", "--delta", "1e-5"], "give --sampling-rate"),
        (RUN, "--target-epsilon"),
        ([*RUN, "--target-epsilon", "0"], "above 0"),
        (["--noise-multiplier", "1", *RUN, "--figure", "x.gif"], ".svg"),
        (["--noise-multiplier", "1", *RUN, "-o", "absent/x.json"], "not a directory"),
        (["--noise-multiplier", "1", *RUN, "--scheme", "shufle(3)"], "Did you mean 'shuffle'?"),
        (["--noise-multiplier", "1", *RUN, "--scheme", "shuffle(size=3)"], "Expected shuffle(batch_size"),
        (["--noise-multiplier", "1", *RUN, "--scheme", "shuffle(1000)"], "1000"),
        (
            [
                "--noise-multiplier",
                "1",
                *RUN,
                "--adjacency",
                "add_or_remove_one",
                "--scheme",
                "sequential(5)",
            ],
            "zero_out",
        ),
    ],
)
def test_bad_input_exits_2_with_one_message(capsys, arguments: list[str], message: str) -> None:
    assert program.run(["epsilon", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_schemes_are_read_from_literals_only() -> None:
    assert parse_scheme("shuffle(100, drop_last=True)") == Shuffle(100, drop_last=True)
    assert parse_scheme("fixed_size(batch_size=5, replacement=True)") == FixedSize(5, replacement=True)
    assert parse_scheme("weighted_poisson((0.1, 0.2))") == WeightedPoisson((0.1, 0.2))
    for text in (
        "shuffle",
        "shuffle(open('x'))",
        "shuffle(1)(2)",
        "shuffle(1",
        "shuffle(1)+1",
        "os.system(1)",
    ):
        with pytest.raises(DpauditError):
            parse_scheme(text)


def test_infinity_is_a_string_in_json() -> None:
    result = run(*RUN, "--noise-multiplier", "1", "--adjacency", "add_or_remove_one", "--format", "json",
                 "--scheme", "shuffle(10, drop_last=True)")  # fmt: skip
    record = json.loads(result.stdout)
    assert record["epsilons"][-1]["upper"] == "inf"
    assert math.isinf(float(record["epsilons"][-1]["upper"]))
    skipped = [entry["parameters"]["name"] for entry in record["skipped"]]
    assert skipped == ["truncated_poisson", "sequential", "buffer_shuffle"]
