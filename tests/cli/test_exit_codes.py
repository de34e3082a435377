"""Each exit code of the contract, reached by every command in which it has a meaning.

0, 1 and 3 of `gate` and `check` have tests of their own beside this file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dpaudit.audit_report import dump_json
from dpaudit.cli.main import run

LOADER = """
import numpy as np
num_records = 1000

def batches(seed, steps):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.flatnonzero(rng.random(1000) < 0.05)
"""
EPSILON = ["epsilon", "--sampling-rate", "0.1", "--steps", "5", "--delta", "1e-5", "--noise-multiplier", "1"]
COMMANDS = {
    "sampler": (
        ["sampler", "loader.py", "--sampling-rate", "0.05", "--steps", "30"],
        "dpaudit.cli.sampler.audit_loader",
    ),
    "check": (["check", "claim.toml", "--jobs", "0", "--no-cache"], "dpaudit.cli.check.judge"),
    "gate": (["gate", "report.json"], "dpaudit.cli.gate.pass_gate"),
    "report": (["report", "report.json"], "dpaudit.report.html.to_html"),
    "explain": (["explain", "DPA103"], "dpaudit.audit.rules.explain"),
    "init": (["init", "loader.py"], "dpaudit.init.draft.draft_claim"),
    "epsilon": (EPSILON, "dpaudit.accounting.survey.survey"),
}
WRONG = {
    "sampler": ["sampler", "absent.py"],
    "check": ["check", "absent"],
    "gate": ["gate", "absent.json"],
    "report": ["report", "absent.json"],
    "explain": ["explain", "DPA999"],
    "init": ["init", "absent.py"],
    "epsilon": [*EPSILON, "--delta", "2"],
}


@pytest.fixture
def workplace(tmp_path, monkeypatch, report) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loader.py").write_text(LOADER)
    (tmp_path / "claim.toml").write_text('target = "loader.py"\n[claim]\n[audit]\nsteps = 30\n')
    (tmp_path / "report.json").write_text(dump_json(report.to_json()))
    return tmp_path


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("ours"), 70), (KeyboardInterrupt(), 130)])
@pytest.mark.parametrize("name", COMMANDS)
def test_faults_and_interrupts_have_codes_of_their_own(
    workplace, monkeypatch, capsys, name: str, error: BaseException, code: int
) -> None:
    arguments, inside = COMMANDS[name]

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(inside, fail)
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert ("Internal error of dpaudit; nothing was decided" in captured.err) is (code == 70)
    assert "refuted" not in captured.out.lower()


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_2_with_one_message(workplace, capsys, name: str) -> None:
    assert run(WRONG[name]) == 2
    captured = capsys.readouterr()
    assert captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", ["report", "explain", "init"])
def test_what_decides_nothing_is_0(workplace, name: str) -> None:
    assert run(COMMANDS[name][0]) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_codes_and_fits(capsys, name: str) -> None:
    for flag in ("-h", "--help"):
        assert run([name, flag]) == 0
        text = capsys.readouterr().out
        assert "Exit codes: 0 " in text
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["check", "gate", "report", "explain", "init", "epsilon"])
def test_help_has_examples(capsys, name: str) -> None:
    run([name, "-h"])
    examples = capsys.readouterr().out.partition("Examples:")[2]
    assert f"dpaudit {name}" in examples
