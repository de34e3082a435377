"""Claim files of kind "script": a whole program among the audits of `dpaudit check`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpaudit.audit.kinds import plan_audit
from dpaudit.audit.program import read_script_file
from dpaudit.cli.main import run
from dpaudit.errors import ClaimError, UserCodeError
from dpaudit.instrument.seeding import restored
from dpaudit.scheme import Poisson

pytest.importorskip("torch")
TRAIN = """
import sys
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.rand(100, 2)), batch_size=10, shuffle=True)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
print("training begins")
for _ in range(int(sys.argv[1])):
    for (x,) in loader:
        model(x).sum().backward()
        optimizer.step()
sys.exit(sys.argv[2])
"""
CLAIM = """
kind = "script"
title = "As it is trained"
target = "train.py"
expected = "unsupported"
[script]
arguments = ["4", "{status}"]
[claim]
scheme = {{ name = "poisson", rate = 0.1 }}
"""


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "train.py").write_text(TRAIN.replace("sys.exit(sys.argv[2])", "sys.exit(int(sys.argv[2]))"))
    (tmp_path / "claim.toml").write_text(CLAIM.format(status=0))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    with restored():
        yield tmp_path / "claim.toml"


def test_a_script_file_is_read(claim: Path) -> None:
    script = read_script_file(claim)
    assert script.arguments == ("4", "0")
    assert script.file.target == str(claim.parent / "train.py")
    assert script.file.claim.scheme == Poisson(0.1)
    assert script.file.expected == "unsupported"


def test_it_is_planned_and_run_like_any_other(claim: Path, capsys) -> None:
    planned = plan_audit(claim)
    assert (planned.title, planned.expected) == ("As it is trained", "unsupported")
    report = planned.run(["dpaudit", "check"], None)
    assert report.verdict.outcome.value == "unsupported"
    assert report.target.endswith("train.py 4 0")
    assert len(report.provenance.input_sha256) == 2
    captured = capsys.readouterr()
    assert "training begins" in captured.err
    assert captured.out == ""


def test_a_program_that_fails_is_an_error(claim: Path) -> None:
    claim.write_text(CLAIM.format(status=3))
    with pytest.raises(UserCodeError, match="the program exited: 3"):
        plan_audit(claim).run([], None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('arguments = "--epochs 3"', "list of strings"),
        ("argumets = []", "argumets"),
        ("arguments = [3]", "list of strings"),
    ],
)
def test_wrong_files_are_refused(claim: Path, wrong: str, said: str) -> None:
    claim.write_text(CLAIM.replace('arguments = ["4", "{status}"]', wrong).format())
    with pytest.raises(ClaimError, match=said) as caught:
        read_script_file(claim)
    assert "claim.toml" in caught.value.message
    claim.write_text('kind = "script"\n')
    with pytest.raises(ClaimError, match="names no target"):
        read_script_file(claim)


@pytest.mark.slow
def test_check_audits_it(claim: Path, capfd) -> None:
    assert run(["check", str(claim), "--no-cache", "--format", "json"]) == 0
    assert "training begins" not in capfd.readouterr().out
