from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dpaudit.cli.main import run
from dpaudit.trace import SamplingTrace

CLAIM = ["--noise-multiplier", "1.0", "--epochs", "10", "--delta", "1e-5", "--sampling-rate", "0.05"]
SHUFFLED = """
import numpy as np

def batches(seed, steps):
    rng = np.random.default_rng(seed)
    for epoch in range(1000):
        yield from rng.permutation(1000).reshape(20, 50)
"""
POISSON = """
import numpy as np
num_records = 1000

def batches(seed, steps):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        yield np.flatnonzero(rng.random(1000) < 0.05)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    (tmp_path / "shuffled.py").write_text(SHUFFLED)
    (tmp_path / "poisson.py").write_text(POISSON)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "outcome"),
    [
        (["shuffled.py", *CLAIM, "--steps", "100"], 1, "refuted"),
        (["shuffled.py", "--sampling-rate", "0.05", "--steps", "100"], 1, "unsupported"),
        (["poisson.py", *CLAIM, "--steps", "100"], 0, "consistent"),
        (["poisson.py", *CLAIM, "--steps", "2"], 3, "inconclusive"),
        (["shuffled.py", *CLAIM, "--steps", "100", "--exit-zero"], 0, "refuted"),
    ],
)
def test_verdicts_and_exit_codes(workplace, capsys, arguments, code, outcome) -> None:
    assert run(["sampler", *arguments, "--format", "json", "--seed", "1"]) == code
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"]["outcome"] == outcome
    assert record["provenance"]["seed"] == 1


def test_text_says_everything_in_80_columns(workplace, capsys) -> None:
    run(["sampler", "shuffled.py", *CLAIM, "--steps", "100", "--seed", "0"])
    text = capsys.readouterr().out
    for part in (
        "Refuted",
        "What was seen",
        "shuffle",
        "REJECTED",
        "as claimed",
        "what runs",
        "How to fix it",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 80


def test_every_output_is_written(workplace) -> None:
    arguments = ["shuffled.py", *CLAIM, "--steps", "100", "--html", "r.html", "--save-trace", "t.npz"]
    assert run(["sampler", *arguments, "-o", "r.json", "--format", "json"]) == 1
    assert json.loads(Path("r.json").read_text())["kind"] == "sampler"
    assert "<svg" in Path("r.html").read_text()
    assert SamplingTrace.load("t.npz").steps == 100
    assert run(["sampler", "t.npz", *CLAIM, "-o", "again.md", "--format", "markdown"]) == 1
    assert "Refuted" in Path("again.md").read_text()


def test_flags_override_the_claim_file(workplace, capsys) -> None:
    Path("claim.toml").write_text(
        'target = "shuffled.py"\n[claim]\nepsilon = 1.0\nnoise_multiplier = 1.0\nepochs = 10\ndelta = 1e-5\n'
        'scheme = {name = "poisson", rate = 0.05}\n[audit]\nsteps = 100\nseed = 0\n'
    )
    assert run(["sampler", "--claim", "claim.toml", "--format", "json"]) == 1
    assert run(["sampler", "--claim", "claim.toml", "--epsilon", "1000", "--format", "json"]) == 0
    assert '"epsilon": 1000.0' in capsys.readouterr().out


def test_two_runs_show_a_fixed_seed(workplace, capsys) -> None:
    Path("fixed.py").write_text(POISSON.replace("default_rng(seed)", "default_rng(7)"))
    run(["sampler", "fixed.py", *CLAIM, "--steps", "60", "--runs", "2", "--format", "json"])
    assert "seed" in " ".join(json.loads(capsys.readouterr().out)["sampling"]["notes"])


EQUAL_RECORDS = """
import torch
from torch.utils.data import DataLoader, IterableDataset

class Stream(IterableDataset):
    def __iter__(self):
        for record in torch.randperm({records}):
            yield record % {contents}

loader = DataLoader(Stream(), batch_size=20)
"""


@pytest.mark.parametrize(("contents", "code"), [(300, 3), (400, 1)])
def test_equal_records_of_a_stream_are_not_held_against_it(workplace, capsys, contents, code) -> None:
    """Content alone tells these records: a third of them twice looks like a sampler that repeats itself."""
    Path("stream.py").write_text(EQUAL_RECORDS.format(records=400, contents=contents))
    claim = ["--sampling-rate", "0.05", "--noise-multiplier", "1", "--epochs", "5", "--epsilon", "1"]
    recorded = ["sampler", "stream.py", "--steps", "100", "--save-trace", "kept.npz", *claim]
    for command in (recorded, ["sampler", "kept.npz", *claim]):
        assert run(command) == code
        assert ("nothing is held against" in " ".join(capsys.readouterr().out.split())) == (code == 3)


def test_a_bare_sampler_is_cut_into_batches(workplace, capsys) -> None:
    Path("bare.py").write_text(
        "from torch.utils.data import RandomSampler\nsampler = RandomSampler(range(1000))\n"
    )
    arguments = ["sampler", "bare.py:sampler", "--steps", "40", "--format", "json"]
    assert run(arguments) == 2
    assert "batch" in capsys.readouterr().err
    assert run([*arguments, "--batch-size", "50"]) == 1
    assert json.loads(capsys.readouterr().out)["sampling"]["scheme"]["name"] == "shuffle"


BAD = {
    "missing file": (["absent.py"], "absent.py"),
    "missing trace": (["absent.npz"], "absent.npz"),
    "missing claim": (["poisson.py", "--claim", "absent.toml"], "absent.toml"),
    "syntax error": (["syntax.py"], "SyntaxError"),
    "exception on import": (["raises.py"], "ZeroDivisionError"),
    "exception in the loader": (["breaks.py"], "KeyError"),
    "ambiguous": (["two.py"], "train_loader"),
    "no loader": (["nothing.py"], "nothing.py"),
    "no index": (["words.py"], "record numbers"),
    "empty": (["empty.py"], "no batch"),
    "negative": (["negative.py"], "negative"),
    "out of range": (["poisson.py", "--num-records", "10"], "outside"),
    "NaN epsilon": (["poisson.py", "--epsilon", "nan"], "NaN"),
    "NaN noise": (["poisson.py", "--noise-multiplier", "nan"], "NaN"),
    "zero noise": (["poisson.py", "--noise-multiplier", "0"], "noise_multiplier"),
    "rate 0": (["poisson.py", "--sampling-rate", "0"], "0.0"),
    "rate above 1": (["poisson.py", "--sampling-rate", "1.5"], "1.5"),
    "delta 1": (["poisson.py", "--delta", "1"], "delta"),
    "unknown key": (["poisson.py", "--claim", "typo.toml"], "noise_multiplier"),
    "truncated trace": (["cut.npz"], "cut.npz"),
    "pickled trace": (["pickled.npz"], "pickled.npz"),
    "unwritable html": (["poisson.py", "--html", "absent/r.html"], "absent"),
    "html is a directory": (["poisson.py", "--html", "."], "directory"),
    "significance": (["poisson.py", "--significance", "2"], "significance"),
}
FILES = {
    "syntax.py": "def batches(:\n",
    "raises.py": "1 / 0\n",
    "breaks.py": "def batches(seed, steps):\n    yield [0]\n    yield [{}['x']]\n",
    "two.py": "train_loader = [[0], [1]]\nloader = [[2]]\n",
    "nothing.py": "x = 3\n",
    "words.py": "train_loader = [['a', 'b'], ['c']]\n",
    "empty.py": "train_loader = []\n",
    "negative.py": "train_loader = [[0, 1], [-1]]\n",
    "typo.toml": "[claim]\nnoise_multiplyer = 1.0\n",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_exits_2_with_one_message_and_nothing_written(workplace, capsys, name) -> None:
    for file, text in FILES.items():
        Path(file).write_text(text)
    SamplingTrace.from_batches([[0]], num_records=1).save("cut.npz")
    Path("cut.npz").write_bytes(Path("cut.npz").read_bytes()[:-30])
    np.savez("pickled.npz", indices=np.array([object()]), offsets=np.array([0, 1]), num_records=1)
    before = sorted(os.listdir())
    arguments, message = BAD[name]
    assert run(["sampler", *arguments, "--steps", "20", "-o", "out.json", "--format", "json"]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "dpaudit/" not in captured.err  # the user's traceback, not ours
    assert captured.out == ""
    assert sorted(name for name in os.listdir() if name != "__pycache__") == before
