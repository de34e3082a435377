from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpaudit.audit import following
from dpaudit.cli.follow import describe
from dpaudit.cli.main import run
from dpaudit.sampling import SamplingMonitor
from dpaudit.trace import SamplingTrace
from dpaudit.trace_writer import TraceWriter

N = 1000
CLAIM = ["--noise-multiplier", "1.0", "--epochs", "10", "--delta", "1e-5", "--sampling-rate", "0.05"]
LOADER = """
import numpy as np
num_records = 1000

def batches(seed, steps):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.flatnonzero(rng.random(1000) < 0.05)
"""


def poisson(steps: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [np.flatnonzero(rng.random(N) < 0.05) for _ in range(steps)]


def shuffled(steps: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [batch for _ in range(steps // 20) for batch in rng.permutation(N).reshape(20, 50)]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(following, "_PAUSE", 0.02)
    return tmp_path


def train(batches: list[np.ndarray], *, ends: bool = True) -> TraceWriter:
    """Write a trace as a training does, in a thread of its own."""
    writer = TraceWriter("trace", num_records=N, chunk_draws=400)

    def steps() -> None:
        for batch in batches:
            writer.add(batch)
            time.sleep(0.002)
        writer.flush()
        if ends:
            writer.close()

    threading.Thread(target=steps).start()
    return writer


def follow(capsys, *arguments: str) -> tuple[int, dict, str]:
    code = run(["sampler", "trace", "--follow", *CLAIM, "--format", "json", *arguments])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_an_honest_training_is_audited_when_it_ends(capsys) -> None:
    train(poisson(120))
    code, report, err = follow(capsys)
    assert code == 0
    assert report["verdict"]["outcome"] == "consistent"
    assert report["sampling"]["steps"] == 120
    assert "not refuted" in err
    assert any("Every step was tested" in note for note in report["notes"])


def test_a_wrong_training_is_refuted_while_it_runs(capsys) -> None:
    train(shuffled(200), ends=False)
    code, report, err = follow(capsys)
    assert code == 1
    assert int(err.strip().splitlines()[-1].split(" steps: refuted")[0]) < 20
    assert report["verdict"]["outcome"] in ("refuted", "unsupported")
    assert ": refuted (p-value" in err
    assert any("at step" in note for note in [*report["notes"], *map(str, report["verdict"]["reasons"])])


def test_what_only_the_live_test_has_seen_is_told(capsys, monkeypatch) -> None:
    writer = TraceWriter("trace", num_records=N)
    for batch in poisson(4):
        writer.add(batch)
    writer.flush()
    honest = SamplingMonitor.update

    def refutes(self, batch):
        honest(self, batch)
        self._largest = 20.0
        return self.state

    monkeypatch.setattr(SamplingMonitor, "update", refutes)
    code, report, _ = follow(capsys)
    assert code == 1
    assert report["verdict"]["outcome"] == "unsupported"
    assert "is refuted at step" in report["verdict"]["reasons"][0]["sentence"]


def test_a_recording_that_stopped_is_audited_when_patience_ends(capsys) -> None:
    train(poisson(60), ends=False).flush()
    code, report, _ = follow(capsys, "--patience", "0.5")
    assert code in (0, 3)
    assert any("has not ended" in note for note in report["notes"])


def test_quiet_and_exit_zero(capsys) -> None:
    train(shuffled(40))
    code, _, err = follow(capsys, "--quiet", "--exit-zero")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--follow", *CLAIM], "no such directory"),
        (["trace", "--follow"], "no sampling rate"),
        (["trace", "--follow", *CLAIM, "--num-records", "10"], "does not fit N"),
        (["--follow"], "no TARGET"),
        (["--script", "train.py", "--follow", "--patience", "3"], "--patience"),
        (["--script", "train.py", "--stop-on", "refuted"], "needs --follow"),
        (["trace", "--follow", "--stop-on", "refuted"], "needs --script"),
        (["--script", "loader.py", "--stream", "trace"], "not empty"),
        (["running", "--follow", *CLAIM], "beside --script"),
        (["ranks"], "holds the traces of 2 ranks"),
        (["loader.py", "--stream", "trace", "--steps", "5"], "not empty"),
        (["loader.py", "--stream", "absent/t", "--steps", "5"], "cannot write"),
    ],
)
def test_bad_input_exits_2(place, capsys, arguments, message) -> None:
    Path("loader.py").write_text(LOADER)
    with TraceWriter("trace", num_records=N) as writer:
        writer.add([500])
    Path("running").mkdir()
    Path("running/program.json").write_text("{}")
    for rank in range(2):
        Path(f"ranks/rank-{rank}").mkdir(parents=True)
    assert run(["sampler", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_a_loader_is_recorded_to_disk_and_audited_again(capsys) -> None:
    Path("loader.py").write_text(LOADER)
    arguments = [*CLAIM, "--format", "json", "--seed", "1"]
    assert run(["sampler", "loader.py", "--steps", "100", "--stream", "kept", *arguments]) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(["sampler", "kept", *arguments]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["sampling"] == first["sampling"]
    assert SamplingTrace.load("kept").steps == 100
    assert run(["sampler", "kept", "--stream", "copy", "--save-trace", "copy.npz", *arguments]) == 0
    assert np.array_equal(SamplingTrace.load("copy").indices, SamplingTrace.load("copy.npz").indices)


def test_a_claim_file_names_a_trace_beside_it(place, capsys) -> None:
    (place / "audits").mkdir()
    with TraceWriter("audits/trace", num_records=N) as writer:
        for batch in shuffled(60):
            writer.add(batch)
    claim = 'target = "trace"\n[claim]\nscheme = {name = "poisson", rate = 0.05}\n'
    Path("audits/claim.toml").write_text(claim)
    for arguments in ([], ["--follow"]):
        assert run(["sampler", "--claim", "audits/claim.toml", *arguments]) == 1
    assert "shuffle" in capsys.readouterr().out


def test_damage_is_told_in_the_report(capsys) -> None:
    with TraceWriter("trace", num_records=N, chunk_draws=400) as writer:
        for batch in poisson(200):
            writer.add(batch)
    indices = Path("trace/indices.bin")
    indices.write_bytes(indices.read_bytes()[:-100])
    assert run(["sampler", "trace", *CLAIM, "--format", "json"]) in (0, 3)
    assert "damaged after step" in " ".join(json.loads(capsys.readouterr().out)["notes"])


def test_a_state_in_one_line() -> None:
    state = SamplingMonitor(N, 0.05).state
    assert describe(state) == "0 steps: not refuted (p-value 1)"
    state = replace(state, steps=1234, p_value=1e-4, refuted=True, leading="sampling rate", rule="DPA102")
    assert describe(state) == "1,234 steps: refuted (p-value 0.0001); most telling: sampling rate, DPA102"


TRAINING = """
import itertools, torch, dpaudit
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(torch.arange(1000.0)), batch_size=50, shuffle=True)
watched = dpaudit.watch(loader, stream="trace")
for step, _ in enumerate(batch for _ in itertools.count() for batch in watched):
    if step >= 200:
        watched._dpaudit_tap.recorder._writer._chunk_seconds = 0.0
    print(step, flush=True)
"""


@pytest.mark.slow
def test_a_killed_training_has_left_its_trace(place, capsys) -> None:
    with subprocess.Popen([sys.executable, "-c", TRAINING], stdout=subprocess.PIPE, text=True) as child:
        while int(child.stdout.readline()) < 400:
            pass
        child.send_signal(signal.SIGKILL)
    assert run(["sampler", "trace", *CLAIM, "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["sampling"]["scheme"]["name"] == "shuffle"
    assert report["sampling"]["steps"] > 300
    assert any("was killed" in note for note in report["notes"])
