"""`dpaudit train`: from a training file to a model, a claim, and a trace that the other commands accept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from dpaudit import check_sampling
from dpaudit.cli.main import run
from dpaudit.dpsgd.checkpoint import load_state
from dpaudit.trace import SamplingTrace

ROOT = Path(__file__).parents[2]
DATA = """
import os, signal, torch
from torch.utils.data import Dataset

generator = torch.Generator().manual_seed(0)
inputs = torch.randn(400, 3, generator=generator)
targets = (inputs.sum(1) > 0).long()

def tensors():
    return inputs, targets, inputs[:50], targets[:50]

def scalar():
    return torch.tensor(3.0), torch.tensor(1)

def words():
    return ["a", "b"], [0, 1]

def lopsided():
    return inputs, targets, inputs[:50], targets[:30]

def narrow():
    return inputs, targets, inputs[:50, :2], targets[:50]

class Signals(Dataset):
    "Sends a signal to its own process when it is asked for the n-th time."
    def __init__(self):
        self.asked, self.number = 0, int(os.environ.get("SIGNAL", "0"))
        self.at = int(os.environ.get("SIGNAL_AT", "-1"))
    def __len__(self):
        return 400
    def __getitem__(self, number):
        self.asked += 1
        if self.asked == self.at:
            os.kill(os.getpid(), self.number)
        return inputs[number], targets[number]
"""
MODEL = """
from torch import nn

def build(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, 2))

def broken():
    return nn.Sequential(nn.Linear(7, 2))
"""
CONFIG = """
title = "Two classes"
[model]
file = "model.py:build(width=5)"
[data]
file = "data.py:{data}"
[training]
scheme = {scheme}
steps = 150
delta = 1e-5
noise_multiplier = 1.0
clip_norm = 1.0
learning_rate = 0.5
seed = 0
{more}
"""
POISSON = '{ name = "poisson", rate = 0.05 }'


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)

    def write(scheme=POISSON, more="", data="tensors", old="", new="", name="train.toml"):
        text = CONFIG.format(scheme=scheme, more=more, data=data)
        assert old in text
        Path(name).write_text(text.replace(old, new) if old else text)
        return name

    return write


def weights(path):
    return torch.cat([value.flatten() for value in torch.load(path, weights_only=True).values()])


# what comes out


def test_the_demo_trains_without_a_file(tmp_path, monkeypatch, capsys) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--steps", "30"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Digits by DP-SGD\n\nEpsilon ")
    assert "Poisson, rate 0.178 of 1,438 records" in text
    assert "30 of 30: all steps taken" in text
    assert "test accuracy" in text
    assert max(map(len, text.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_json_has_the_claim_and_nothing_that_is_not_private(workplace, capsys) -> None:
    assert run(["train", workplace(), "--format", "json", "--steps", "20"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["kind"] == "training"
    assert record["claim"]["epsilon"] == record["epsilon"]["upper"]
    assert record["claim"]["scheme"] == {"name": "poisson", "rate": 0.05}
    assert record["claim"]["steps"] == record["steps"] == 20
    assert record["test_records"] == 50
    assert "loss" not in record
    assert os.name != "posix" or Path("train.checkpoint.pt").stat().st_mode & 0o077 == 0
    assert "refused" not in record
    assert record["provenance"]["seed"] == 0
    assert load_state("train.checkpoint.pt")["epsilon"][1] == record["epsilon"]["upper"]


def test_a_terminal_sees_step_loss_and_epsilon(workplace, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert run(["train", workplace(), "--steps", "20"]) == 0
    shown = capsys.readouterr()
    for word in ("20/20", "loss ", "epsilon "):
        assert word in shown.err
        assert word not in shown.out
    assert run(["train", workplace(), "--steps", "20", "--resume", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_refused_records_are_told_on_standard_error_alone(workplace, capsys) -> None:
    Path("data.py").write_text(DATA + "\ninputs[7] = float('nan')\n")
    assert run(["train", workplace(), "--format", "json"]) == 0
    shown = capsys.readouterr()
    assert "times a record added nothing" in shown.err
    assert "added nothing" not in shown.out


def test_explain_shows_routes_and_trains_nothing(workplace, capsys) -> None:
    assert run(["train", workplace(), "--explain"]) == 0
    text = capsys.readouterr().out
    assert "0.weight" in text
    assert "gram" in text
    assert text.index("0.weight") < text.index("3.weight"), "in the model's order"
    assert not Path("train.checkpoint.pt").exists()


def test_explain_where_there_is_no_choice(workplace, capsys) -> None:
    assert run(["train", workplace(more='clipping = "per_sample"'), "--explain"]) == 0
    assert "No layer has a choice" in capsys.readouterr().out


def test_target_epsilon_is_met_and_never_exceeded(workplace, capsys) -> None:
    assert run(["train", workplace(), "--target-epsilon", "2", "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert 1.98 < record["epsilon"]["upper"] <= 2.0
    assert record["stopped_by"] == "all steps taken"
    name = workplace(more="target_epsilon = 1.5", name="stops.toml")
    assert run(["train", name, "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["stopped_by"] == "target epsilon"
    assert record["steps"] < 150
    assert 1.4 < record["epsilon"]["upper"] <= 1.5
    assert record["claim"]["noise_multiplier"] == 1.0


def test_without_a_seed_no_two_trainings_are_alike(workplace, capsys) -> None:
    name = workplace(old="seed = 0", new="")
    for place in "ab":
        arguments = ["train", name, "--checkpoint", f"{place}.ckpt", "--model-out", f"{place}.pt"]
        assert run([*arguments, "--steps", "3"]) == 0
    assert not torch.equal(weights("a.pt"), weights("b.pt"))
    assert "Seeded" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "more",
    ['clipping = "per_sample"\nclip_function = "automatic"\noptimizer = "adam"', 'groups = "per_layer"',
     'dtype = "float64"\nsecure_noise = true', 'autocast = "bfloat16"\nnoise_ahead = true',
     'autocast = "float16"',
     "momentum = 0.5\nweight_decay = 0.1\nphysical_batch_size = 7\nfixed_shape = true",
     "noise_multiplier = 0.0\nfor_audit = true"],
)  # fmt: skip
def test_every_setting_trains(workplace, capsys, more) -> None:
    old = "noise_multiplier = 1.0\n" if "noise_multiplier" in more else ""
    assert run(["train", workplace(more=more, old=old), "--steps", "4", "--format", "json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["epsilon"]["upper"] == "inf" if old else record["epsilon"]["upper"] < 10


# its batches, before the sampling audit

RIGHT = {
    "plain": (POISSON, ""),
    "micro-batches": (POISSON, "physical_batch_size = 8"),
    "masked fixed shapes": (POISSON, "physical_batch_size = 8\nfixed_shape = true"),
    "truncated": ('{ name = "truncated_poisson", rate = 0.05, max_batch_size = 22 }', ""),
    "balls in bins": ('{ name = "balls_in_bins", bins = 20 }', "physical_batch_size = 8"),
    "shuffle": ('{ name = "shuffle", batch_size = 20 }', "for_audit = true"),
    "fixed size": ('{ name = "fixed_size", batch_size = 20 }', "for_audit = true"),
    "sequential": ('{ name = "sequential", batch_size = 20 }', "for_audit = true"),
}


SLOWER = ("micro-batches", "fixed size", "sequential")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOWER else name for name in RIGHT]
)
def test_the_claim_that_is_written_passes_the_audit_of_the_batches(workplace, capsys, name) -> None:
    scheme, more = RIGHT[name]
    arguments = ["train", workplace(scheme, more), "--record-trace", "t.npz", "--claim-out", "claim.toml"]
    assert run(arguments) == 0
    assert ("for an audit only" in capsys.readouterr().out) == ("for_audit" in more)
    trace = SamplingTrace.load("t.npz")
    assert trace.steps == 150
    assert run(["sampler", "--claim", "claim.toml", "-o", "audit.json", "--format", "json"]) == 0
    record = json.loads(Path("audit.json").read_text())
    assert record["verdict"]["outcome"] == "consistent"
    assert record["claim"]["scheme"]["name"] == tomllib.loads(f"scheme = {scheme}")["scheme"]["name"]
    assert any(test["rejected"] for test in record["sampling"]["tests"]) == (scheme != POISSON)
    assert check_sampling(trace, sampling_rate=0.05).rejects_poisson == (scheme != POISSON)


@pytest.mark.parametrize(
    "name",
    ["shuffle", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sequential", "fixed size"))],
)
def test_other_batches_fail_a_poisson_claim(workplace, name) -> None:
    scheme, more = RIGHT[name]
    assert (
        run(["train", workplace(scheme, more), "--record-trace", "t.npz", "--claim-out", "claim.toml"]) == 0
    )
    claim = Path("claim.toml").read_text()
    honest = next(line for line in claim.splitlines() if line.startswith("scheme"))
    epsilon = next(line for line in claim.splitlines() if line.startswith("epsilon"))
    Path("claim.toml").write_text(claim.replace(honest, f"scheme = {POISSON}").replace(epsilon, ""))
    assert run(["sampler", "--claim", "claim.toml"]) == 1


def test_audit_only_schemes_get_the_epsilon_they_deserve(workplace, capsys) -> None:
    epsilons = {}
    for name in ("plain", "shuffle"):
        scheme, more = RIGHT[name]
        path = workplace(scheme, more, name=f"{name}.toml")
        assert run(["train", path, "--steps", "40", "--format", "json"]) == 0
        epsilons[name] = json.loads(capsys.readouterr().out)["epsilon"]
    assert epsilons["shuffle"]["scheme"] == "shuffle"
    assert epsilons["shuffle"]["lower"] > epsilons["plain"]["upper"]


# interrupted, killed, resumed


@pytest.mark.parametrize("more", ["", 'clipping = "per_sample"\noptimizer = "adam"'])
def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(workplace, capsys, monkeypatch, more) -> None:
    name = workplace(more=more, data="Signals()")
    assert run(["train", name, "--checkpoint", "whole.ckpt", "--model-out", "whole.pt"]) == 0
    monkeypatch.setenv("SIGNAL", str(int(signal.SIGINT)))
    monkeypatch.setenv("SIGNAL_AT", "700")
    before = signal.getsignal(signal.SIGINT)
    arguments = ["train", name, "--record-trace", "t.npz"]
    assert run([*arguments, "--model-out", "half.pt"]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not Path("half.pt").exists()
    assert "--resume" in capsys.readouterr().err
    assert 0 < load_state("train.checkpoint.pt")["steps"] < 150
    monkeypatch.delenv("SIGNAL_AT")
    assert run(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert run([*arguments, "--resume", "--model-out", "resumed.pt"]) == 0
    assert torch.equal(weights("resumed.pt"), weights("whole.pt"))
    assert SamplingTrace.load("t.npz").steps == 150


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_kill_costs_the_steps_since_the_last_checkpoint_and_nothing_else(workplace) -> None:
    name = workplace(more="checkpoint_every = 7", data="Signals()")
    assert run(["train", name, "--checkpoint", "whole.ckpt", "--model-out", "whole.pt"]) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SIGNAL": str(int(signal.SIGKILL))}
    command = [sys.executable, "-m", "dpaudit", "train", name, "--quiet"]
    killed = subprocess.run(command, env=environment | {"SIGNAL_AT": "800"}, check=False).returncode
    assert killed == -signal.SIGKILL
    steps = load_state("train.checkpoint.pt")["steps"]
    assert 0 < steps < 150
    assert steps % 7 == 0
    assert run(["train", name, "--resume", "--model-out", "resumed.pt"]) == 0
    assert torch.equal(weights("resumed.pt"), weights("whole.pt"))


def test_a_checkpoint_of_another_mechanism_is_refused(workplace, capsys) -> None:
    assert run(["train", workplace(), "--steps", "5"]) == 0
    assert (
        run(["train", workplace(old="noise_multiplier = 1.0", new="noise_multiplier = 2.0"), "--resume"]) == 2
    )
    assert "noise_multiplier 1.0, not 2.0" in capsys.readouterr().err
    assert run(["train", workplace('{ name = "poisson", rate = 0.1 }'), "--resume"]) == 2
    assert "Poisson(rate=0.05)" in capsys.readouterr().err
    assert run(["train", workplace(), "--resume", "--checkpoint", "absent.pt"]) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    assert run(["train", "--resume"]) == 2
    assert "no checkpoint to resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("learning_rate = 0.5", "learning_rate = 0.1", "[training] learning_rate = 0.5, not 0.1"),
        ("seed = 0", "", "[training] seed = 0, not None"),
        ("width=5", "width=6", "[model] file = 'model.py:build(width=5)'"),
        ("data.py:tensors", "data.py:Signals()", "[data] file"),
        ("steps = 150", 'steps = 150\noptimizer = "adam"', "[training] optimizer = 'sgd'"),
        ("steps = 150", 'steps = 150\nclip_function = "automatic"', "[training] clip_function"),
        ("steps = 150", "steps = 150\nsecure_noise = true", "[training] secure_noise"),
    ],
)
def test_noise_that_was_drawn_once_never_meets_another_training(workplace, capsys, old, new, words) -> None:
    assert run(["train", workplace(), "--steps", "3"]) == 0
    kept = Path("train.checkpoint.pt").read_bytes()
    assert run(["train", workplace(old=old, new=new), "--resume"]) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert "another --checkpoint" in shown
    assert Path("train.checkpoint.pt").read_bytes() == kept


def test_a_training_may_go_on_longer_and_in_smaller_pieces(workplace) -> None:
    assert run(["train", workplace(), "--checkpoint", "whole.ckpt", "--model-out", "whole.pt"]) == 0
    assert run(["train", workplace(), "--steps", "100"]) == 0
    name = workplace(more="checkpoint_every = 5")
    assert run(["train", name, "--resume", "--model-out", "longer.pt"]) == 0
    assert torch.equal(weights("longer.pt"), weights("whole.pt"))
    name = workplace(more="physical_batch_size = 9")
    assert run(["train", name, "--resume", "--steps", "160"]) == 0
    assert load_state("train.checkpoint.pt")["steps"] == 160


def test_another_model_from_the_same_file_is_named(workplace, capsys) -> None:
    assert run(["train", workplace(), "--steps", "3"]) == 0
    Path("model.py").write_text(MODEL.replace("nn.Linear(3, width)", "nn.Linear(3, width, bias=False)"))
    assert run(["train", workplace(), "--resume"]) == 2
    assert "is of other trainable parameters" in capsys.readouterr().err
    Path("model.py").write_text(
        MODEL.replace("nn.Linear(3, width)", "nn.Linear(3, width + 1)").replace("width, 2", "width + 1, 2")
    )
    assert run(["train", workplace(), "--resume"]) == 2
    assert "another model" in capsys.readouterr().err


# what a user can get wrong

WRONG = {
    "missing file": ({}, ["absent.toml"], "absent.toml"),
    "unknown key": ({"old": "steps", "new": "stepps"}, [], "Did you mean 'steps'"),
    "unknown scheme": ({"scheme": '{ name = "poison", rate = 0.1 }'}, [], "poison"),
    "no sampler": ({"scheme": '{ name = "cyclic_poisson", rate = 0.1, period = 2 }'}, [], "no sampler"),
    "audit only": ({"scheme": '{ name = "shuffle", batch_size = 20 }'}, [], "for_audit = true"),
    "no noise": ({"old": "multiplier = 1.0", "new": "multiplier = 0.0"}, [], "gives no privacy"),
    "N is secret": ({"more": 'adjacency = "add_or_remove_one"'}, [], "expected_batch_size"),
    "bad clipping": ({"more": 'clipping = "fast"'}, [], "bk_mix_opt"),
    "no data": ({"data": "absent"}, [], "absent"),
    "wrong data": ({"data": "os"}, [], "map-style Dataset"),
    "no model": ({"old": "build(width=5)", "new": "nn"}, [], "torch.nn.Module"),
    "model that does not fit": ({"old": "build(width=5)", "new": "broken"}, [], "mat1 and mat2"),
    "packaged model": ({"old": 'file = "model.py:build(width=5)"', "new": 'name = "mlp"'}, [], "classes"),
    "unknown device": ({"more": 'device = "tpu9"'}, [], "tpu9"),
    "parameters that explode": ({"more": "weight_decay = 1e30"}, [], "not finite"),
    "target": ({}, ["--target-epsilon", "-1"], "above 0"),
    "data of nothing": ({"data": "scalar"}, [], "single number"),
    "data of words": ({"data": "words"}, [], "make no tensor"),
    "fewer test targets": ({"data": "lopsided"}, [], "50 test inputs and 30 test targets"),
    "test that does not fit": ({"data": "narrow"}, ["--steps", "2"], "mat1 and mat2"),
    "misspelt model": ({"old": 'file = "model.py:build(width=5)"', "new": 'name = "mpl"'}, [], "mlp"),
    "batches beyond N": ({"scheme": '{ name = "poisson", batch_size = 600 }'}, [], "600 is more than"),
    "half a scheme": ({"scheme": '{ name = "poisson" }'}, [], "scheme: scheme 'poisson' takes rate"),
    "target below one step": ({"more": "target_epsilon = 0.01"}, [], "one step spends epsilon"),
    "nowhere to write": ({}, ["--model-out", "absent/m.pt"], "absent"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_named(workplace, capsys, name) -> None:
    options, arguments, words = WRONG[name]
    path = workplace(**options)
    arguments = arguments if name == "missing file" else [path, *arguments]
    assert run(["train", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_add_or_remove_one_with_public_numbers(workplace, capsys) -> None:
    name = workplace(more='adjacency = "add_or_remove_one"\nexpected_batch_size = 20')
    assert run(["train", name, "--steps", "3", "--format", "json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["epsilon"]["adjacency"] == "add_or_remove_one"
    assert "num_records" not in text, "it is what this adjacency keeps secret"
    Path("train.checkpoint.pt").unlink()
    assert run(["train", name, "--record-trace", "t.npz", "--claim-out", "claim.toml"]) == 0
    shown = capsys.readouterr().out
    assert "400" not in shown + Path("claim.toml").read_text()
    assert run(["sampler", "--claim", "claim.toml"]) == 0


def test_a_packaged_model_on_data_from_a_file(workplace) -> None:
    model = 'file = "model.py:build(width=5)"'
    name = workplace(old=model, new='name = "transformer"\nclasses = 2\nwidth = 4')
    assert run(["train", name, "--steps", "3"]) == 0


def test_what_a_training_gives_is_no_audit_report(workplace, capsys) -> None:
    assert run(["train", workplace(), "--steps", "3", "--format", "json", "-o", "result.json"]) == 0
    for command in ("gate", "report"):
        assert run([command, "result.json"]) == 2
        shown = capsys.readouterr().err
        assert "result.json: this is no audit report, but JSON of kind 'training'" in shown
        assert "dpaudit sampler --claim" in shown
