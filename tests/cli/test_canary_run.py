"""`dpaudit canary-run` from the outside: outputs, exit codes, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpaudit.audit_report import read_report
from dpaudit.cli.main import run

pytest.importorskip("sklearn")
SMALL = """
[canary]
runs = 1
canaries = 150
per_tensor = 16
inputs = 2
steps = 20
black_box = 0
jobs = 1
seed = 3
"""
CLAIM = """
[claim]
epsilon = 4.0
delta = 1e-5
noise_multiplier = 1.387
clip_norm = 1.0
steps = 100
scheme = { name = "poisson", rate = 0.1 }
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str = CLAIM + SMALL, name: str = "a.toml") -> str:
    Path(name).write_text(text)
    return name


def scores(shift: float, name: str = "scores.npz") -> str:
    rng = np.random.default_rng(0)
    included = rng.random(500) < 0.5
    np.savez(name, included=included, score=rng.normal(size=500) + shift * included)
    return name


def test_a_file_is_audited_and_leaves_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["canary-run", written(), "--html", "a.html", "--format", "json", "-o", "a.json"]) == 0
    assert capsys.readouterr().out == ""
    report = read_report(Path("a.json"))
    assert report.kind == "canary"
    assert json.loads(Path("a.json").read_text())["canary"]["theoretical"]["epsilon"] == pytest.approx(
        3.9954, abs=1e-3
    )
    page = Path("a.html").read_text()
    assert "<svg" in page
    assert "register.weight" in page
    assert not Path("reports").exists()
    assert not list(Path(".dpaudit").rglob("*.npz"))


def test_a_fault_fails_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["canary-run", written(), "--fault", "same_noise", "-q"]) == 1
    out = capsys.readouterr().out
    assert "independent noise across steps" in out
    assert "REJECTED" in out
    assert run(["canary-run", written(), "--fault", "same_noise", "-q", "--exit-zero"]) == 0


def test_flags_override_the_file() -> None:
    assert run(["canary-run", written(), "--epsilon", "0.05", "--steps", "60", "-q"]) == 1
    assert run(["canary-run", written(), "--steps", "1", "--seed", "1", "-q"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.toml"], "cannot read none.toml"),
        (["a.toml", "--scores", "scores.npz"], "one of them"),
        (["a.toml", "--claim", "a.toml"], "--claim goes with --scores"),
        (["a.toml", "--model", "cnn"], "stands in it"),
        (["a.toml", "--fault", "half_nose"], "half_noise"),
        (["a.toml", "--significance", "0.9"], "significance"),
        (["--scores", "scores.npz"], "no epsilon"),
        (["--scores", "none.npz", "--epsilon", "1"], "no scores file"),
        (["--scores", "scores.npz", "--epsilon", "1", "--runs", "3"], "nothing is trained"),
        (["a.toml", "-o", "nowhere/a.json"], "not a directory"),
        (["typo.toml"], "Did you mean 'canaries'"),
    ],
)
def test_wrong_input_is_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written()
    written(CLAIM + "[canary]\ncanarys = 3\n", "typo.toml")
    scores(1.0)
    assert run(["canary-run", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_scores_from_outside(capsys: pytest.CaptureFixture[str]) -> None:
    claim = written()
    assert run(["canary-run", "--scores", scores(5.0), "--claim", claim, "--epsilon", "1", "-q"]) == 1
    out = capsys.readouterr().out
    assert "one run" in out
    assert "independent scores" in out
    assert run(["canary-run", "--scores", scores(5.0), "--epsilon", "1", "--delta", "1e-5", "-q"]) == 1
    csv = Path("scores.csv")
    csv.write_text("included,score\n" + "\n".join(f"{n % 2},{n % 3}" for n in range(40)) + "\n")
    assert run(["canary-run", "--scores", str(csv), "--epsilon", "8", "-q"]) == 3


def test_reruns_are_counted_and_a_refutation_stands(capsys: pytest.CaptureFixture[str]) -> None:
    file = written()
    assert run(["canary-run", file, "--sequential", "budget.json", "-q"]) == 0
    assert run(["canary-run", file, "--sequential", "budget.json", "--fault", "half_noise", "-q"]) == 1
    capsys.readouterr()
    assert run(["canary-run", file, "--sequential", "budget.json", "-q"]) == 1
    assert "earlier attempt" in capsys.readouterr().out
    assert run(["canary-run", file, "--sequential", "budget.json", "--significance", "0.01", "-q"]) == 2


def test_check_runs_canary_files(capsys: pytest.CaptureFixture[str]) -> None:
    Path("audits").mkdir()
    written('expected = "consistent"\n' + CLAIM + SMALL, "audits/good.toml")
    assert run(["check", "audits", "--jobs", "0"]) == 0
    assert "consistent" in capsys.readouterr().out


@pytest.mark.slow
def test_the_demo_needs_no_arguments_and_leaves_its_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["canary-run", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert "Lower bounds from canaries" in out
    assert read_report(Path("reports/canary-run.json")).evidence.canary.bounds
    assert "<svg" in Path("reports/canary-run.html").read_text()
