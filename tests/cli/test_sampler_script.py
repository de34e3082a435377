"""`dpaudit sampler --script`: exit codes, clean standard output, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpaudit.cli.main import run
from dpaudit.instrument.script import script_result
from dpaudit.instrument.seeding import restored
from dpaudit.trace import SamplingTrace

pytest.importorskip("torch")
TRAIN = """
import argparse, sys
import torch
from torch.utils.data import DataLoader, TensorDataset
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--end", default="")
options = parser.parse_args()
torch.manual_seed(0)
print("training begins")
loader = DataLoader(TensorDataset(torch.rand(100, 2)), batch_size=10, shuffle=True)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(options.epochs):
    for (x,) in loader:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
if options.end:
    exec(options.end)
"""
CLAIM = ["--noise-multiplier", "1.0", "--epochs", "10", "--delta", "1e-5", "--sampling-rate", "0.1"]


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored():
        yield


def test_a_claim_by_flags_and_arguments_of_the_program(capsys) -> None:
    command = ["sampler", "--script", "train.py", *CLAIM, "--format", "json", "--save-trace", "t.npz"]
    assert run([*command, "--", "--epochs", "5"]) == 1
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["sampling"]["steps"] == 50
    assert record["sampling"]["scheme"]["name"] == "shuffle"
    assert record["verdict"]["outcome"] == "refuted"
    assert "training begins" in captured.err
    assert SamplingTrace.load("t.npz").steps == 50


def test_the_programs_output_stays_where_it_was_if_the_report_goes_to_a_file(capfd) -> None:
    assert run(["sampler", "--script", "train.py", "-o", "report.json", "--format", "json"]) == 3
    assert capfd.readouterr().out == "training begins\n"
    record = json.loads(Path("report.json").read_text())
    assert "No claim" in record["verdict"]["reasons"][0]["sentence"]
    assert record["provenance"]["input_sha256"]


def test_steps_stop_the_program(capsys) -> None:
    command = ["sampler", "--script", "train.py", "--steps", "25", *CLAIM, "--format", "json"]
    assert run([*command, "--", "--epochs", "1000000"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["sampling"]["steps"] == 25
    assert any("stopped" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(0)", 0), ("sys.exit(4)", 2), ("1 / 0", 2), ("raise KeyboardInterrupt", 2)]
)
def test_a_failed_program_is_wrong_input_but_gets_its_report(capsys, end: str, code: int) -> None:
    command = ["sampler", "--script", "train.py", "--exit-zero", "--format", "json", "--", "--end", end]
    assert run(command) == code
    captured = capsys.readouterr()
    assert json.loads(captured.out)["sampling"]["steps"] == 30
    assert ("ZeroDivisionError" in captured.err) == (end == "1 / 0")


def test_a_module_is_run_as_by_python_m(capsys) -> None:
    assert run(["sampler", "-m", "train", "--format", "json", *CLAIM, "--", "--epochs", "6"]) == 1
    assert json.loads(capsys.readouterr().out)["target"] == "-m train --epochs 6"


def test_a_program_is_refuted_while_it_runs(capsys) -> None:
    command = ["sampler", "--script", "train.py", *CLAIM, "--format", "json", "--follow"]
    assert run([*command, "--", "--epochs", "5"]) == 1
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["sampling"]["steps"] == 50
    assert record["verdict"]["outcome"] == "refuted"
    assert captured.err.count("dpaudit: Poisson sampling at rate 0.1 of 100 records is refuted at step") == 1
    assert any("Steps were tested as they came, at significance 0.0005" in note for note in record["notes"])
    assert run([*command, "--stop-on", "refuted", "--quiet", "--", "--epochs", "1000000"]) == 1
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["sampling"]["steps"] < 30
    assert any("stopped at the step that refuted" in note for note in record["notes"])
    assert "is refuted at step" in captured.err  # however quiet


def test_without_a_claim_a_program_is_audited_at_its_end(capsys) -> None:
    assert run(["sampler", "--script", "train.py", "--follow", "--format", "json"]) == 3
    captured = capsys.readouterr()
    assert captured.err.count("no claim to test against so far") == 1
    assert any("Nothing could be tested" in note for note in json.loads(captured.out)["notes"])


def test_what_bears_no_verdict_gets_none_from_the_live_test(capsys, monkeypatch) -> None:
    monkeypatch.setattr(script_result, "why_unclear", lambda *_: "Nobody knows.")
    command = ["sampler", "--script", "train.py", *CLAIM, "--format", "json", "--follow"]
    assert run([*command, "--", "--epochs", "5"]) == 3
    captured = capsys.readouterr()
    assert "is refuted at step" in captured.err
    assert any("does not count: of such a program" in note for note in json.loads(captured.out)["notes"])


def test_files_lie_where_the_command_was_given_wherever_the_program_goes(capsys, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path("train.py").write_text(
        "import os\n" + TRAIN.replace("options =", "os.chdir('elsewhere'); options =")
    )
    kept = ["--stream", "kept", "--save-trace", "t.npz", "-o", "report.json", "--html", "report.html"]
    assert run(["sampler", "--script", "train.py", *CLAIM, "--format", "json", *kept]) == 1
    assert SamplingTrace.load("kept").steps == SamplingTrace.load("t.npz").steps == 30
    assert json.loads(Path("report.json").read_text())["sampling"]["steps"] == 30
    assert Path("report.html").exists()
    assert not list(Path("elsewhere").iterdir())


def test_a_claim_that_no_live_test_takes_is_refused_before_the_program_runs(capsys) -> None:
    Path("claim.toml").write_text('[claim]\nscheme = { name = "shuffle", batch_size = 10 }\n')
    assert run(["sampler", "--script", "train.py", "--follow", "--claim", "claim.toml"]) == 2
    err = capsys.readouterr().err
    assert "only a claim of Poisson sampling" in err
    assert "training begins" not in err


def test_a_trace_on_disk_gets_the_verdict_of_its_program(capsys) -> None:
    command = ["--format", "json", *CLAIM]
    assert run(["sampler", "--script", "train.py", *command]) == 1
    kept = json.loads(capsys.readouterr().out)
    assert run(["sampler", "--script", "train.py", "--stream", "kept", *command]) == 1
    streamed = json.loads(capsys.readouterr().out)
    assert run(["sampler", "kept", *command]) == 1
    again = json.loads(capsys.readouterr().out)
    for part in ("sampling", "verdict", "epsilons"):
        assert streamed[part] == kept[part] == again[part]
    assert run(["sampler", "--script", "train.py", "--stream", "kept", *command]) == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_program_is_audited_from_its_directory(capsys) -> None:
    command = [sys.executable, "-m", "dpaudit", "sampler", "--script", "train.py", "--stream", "kept", "--"]
    text = TRAIN.replace("optimizer.step()\n", "optimizer.step()\n        time.sleep(0.01)\n")
    Path("train.py").write_text("import time\n" + text)
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [*command, "--epochs", "1000000"], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    ) as child:
        chunks = Path("kept/feed-0/batches/chunks.bin")
        while not chunks.exists() or not chunks.stat().st_size:  # five seconds
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    assert run(["sampler", "kept", *CLAIM, "--format", "json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert record["sampling"]["scheme"]["name"] == "shuffle"
    assert record["sampling"]["steps"] > 50
    assert any("was killed" in note for note in record["notes"])


BAD = {
    "no such script": (["--script", "absent.py"], "no such script: absent.py"),
    "no such module": (["-m", "absent"], "no module 'absent'"),
    "both": (["--script", "train.py", "-m", "train"], "not both"),
    "a seed": (["--script", "train.py", "--seed", "1"], "seeds itself"),
    "runs": (["--script", "train.py", "--runs", "2"], "--runs is"),
    "two targets": (["train.py", "other.py"], "one TARGET"),
    "an argument that the program refuses": (["--script", "train.py", "--", "--epohcs", "3"], "exited"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, capsys) -> None:
    arguments, said = BAD[name]
    assert run(["sampler", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_process_of_its_own() -> None:
    Path("train.py").write_text(TRAIN + "\nimport os\nos.system('echo from a child')\n")
    command = [sys.executable, "-m", "dpaudit", "sampler", "--script", "train.py", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["kind"] == "sampler"
    assert "from a child" in done.stderr
