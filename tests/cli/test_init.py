from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from dpaudit.audit.program import read_script_file
from dpaudit.claim_file import read_claim_file
from dpaudit.cli.main import run
from dpaudit.scheme import Poisson

LOADER = """
import torch
from torch.utils.data import DataLoader, TensorDataset

train_loader = DataLoader(TensorDataset(torch.arange(1000)), batch_size=50, shuffle=True)
"""
OPACUS = """
import argparse
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--sigma", type=float, default=1.1)
parser.add_argument("-b", "--batch-size", type=int, default=50)
parser.add_argument("--epochs", type=int, default=10)
args, _ = parser.parse_known_args()
CLIP = 0.5 * 2

model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = TensorDataset(torch.arange(1000.0).reshape(-1, 1))
engine = PrivacyEngine(accountant="rdp")
model, optimizer, private = engine.make_private(
    module=model,
    optimizer=optimizer,
    data_loader=DataLoader(data, batch_size=args.batch_size),
    noise_multiplier=args.sigma,
    max_grad_norm=CLIP,
)

def train():
    for epoch in range(args.epochs):
        for batch, in private:
            optimizer.step()
    return engine.get_epsilon(1e-5)

if __name__ == "__main__":
    train()
"""
INSIDE = """
from opacus import PrivacyEngine

def main(loader, model, optimizer):
    engine = PrivacyEngine(secure_mode=True)
    return engine.make_private_with_epsilon(
        module=model, optimizer=optimizer, data_loader=loader, epochs=3,
        target_epsilon=2.5, target_delta=1e-6, max_grad_norm=1.5, poisson_sampling=False,
    )
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {"my_loader.py": LOADER, "train.py": OPACUS, "inside.py": INSIDE}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_loader_fills_in_what_it_tells(workplace, capsys) -> None:
    assert run(["init", "my_loader.py"]) == 0
    text = Path("audits/my_loader.toml").read_text()
    assert "# epsilon = 8.0  # the epsilon that is claimed" in text
    assert "# Loader: DataLoader, sampler RandomSampler, batches of 50." in text
    file = read_claim_file(Path("audits/my_loader.toml"))
    assert file.claim.num_records == 1000
    assert file.claim.scheme == Poisson(0.05)
    assert file.claim.epsilon is None
    capsys.readouterr()


def test_the_documented_example_is_what_is_written(workplace) -> None:
    document = (Path(__file__).parents[2] / "docs" / "init.md").read_text()
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL))
    Path("my_loader.py").write_text(blocks["python"])
    program, *arguments = shlex.split(blocks["sh"])
    assert (program, run(arguments)) == ("dpaudit", 0)
    assert Path("audits/main.toml").read_text() == blocks["toml"]


def test_what_init_writes_is_audited_as_it_is(workplace, capsys) -> None:
    run(["init", "my_loader.py", "-o", "audits/claim.toml"])
    assert run(["sampler", "--claim", "audits/claim.toml", "--steps", "100"]) == 1
    assert run(["check", "audits", "--jobs", "0"]) == 1
    assert "shuffled epochs of 20 batches of 50" in capsys.readouterr().out


@pytest.mark.slow
def test_an_opacus_script_fills_in_its_claim(workplace, capsys) -> None:
    pytest.importorskip("opacus")
    assert run(["init", "train.py", "-o", "audits/main.toml"]) == 0
    text = Path("audits/main.toml").read_text()
    file = read_claim_file(Path("audits/main.toml"))
    claim = file.claim
    assert file.target == "audits/../train.py:private"
    assert (claim.noise_multiplier, claim.clip_norm, claim.epochs, claim.delta) == (1.1, 1.0, 10, 1e-5)
    assert (claim.num_records, claim.scheme) == (1000, Poisson(0.05))
    assert claim.accountant == "opacus rdp"
    assert re.search(r"noise_multiplier = 1.1  # line \d+, make_private\(noise_multiplier=...\)", text)
    assert run(["check", "audits"]) == 0


def test_a_script_that_hides_its_loader_is_read_and_will_be_run_as_a_whole(workplace) -> None:
    assert run(["init", "inside.py", "-o", "audits/claim.toml"]) == 0
    text = Path("audits/claim.toml").read_text()
    script = read_script_file(Path("audits/claim.toml"))
    claim = script.file.claim
    assert Path(script.file.target).resolve() == Path("inside.py").resolve()
    assert "# runs = " not in text
    assert (claim.epsilon, claim.delta, claim.epochs, claim.clip_norm) == (2.5, 1e-6, 3, 1.5)
    assert (claim.noise_generator, claim.accountant) == ("cryptographic", "opacus prv")
    assert "Poisson sampling is off, but Opacus' accountant assumes it" in text
    assert "The loader could not be opened" in text
    assert "# noise_multiplier = 1.0" in text


def test_nothing_is_overwritten_unless_forced(workplace, capsys) -> None:
    Path("claim.toml").write_text("mine")
    assert run(["init", "-o", "claim.toml"]) == 2
    assert "--force" in capsys.readouterr().err
    assert Path("claim.toml").read_text() == "mine"
    assert run(["init", "-o", "claim.toml", "--force"]) == 0
    tomllib.loads(Path("claim.toml").read_text())


def test_without_a_target_there_is_a_form(workplace, capsys) -> None:
    assert run(["init"]) == 0
    text = Path("audits/claim.toml").read_text()
    assert tomllib.loads(text) == {"claim": {}, "audit": {}}
    # Every commented line is right once it is uncommented.
    filled = "\n".join(line.removeprefix("# ") if " = " in line else line for line in text.splitlines())
    Path("audits/claim.toml").write_text(filled)
    assert read_claim_file(Path("audits/claim.toml")).claim.epsilon == 8.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.py"], "absent.py"),
        (["broken.py"], "not Python"),
        (["empty.py"], "empty.py"),
        (["my_loader.py", "-o", "."], "directory"),
        (["my_loader.py", "-o", "my_loader.py/x.toml"], "my_loader.py"),
    ],
)
def test_bad_input(workplace, capsys, arguments, message) -> None:
    Path("broken.py").write_text("def (:\n")
    Path("empty.py").write_text("x = 3\n")
    assert run(["init", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("audits").exists()
