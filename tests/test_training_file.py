"""Training files: what is read, what is refused, and with which words."""

from __future__ import annotations

import tomllib

import pytest

from dpaudit.claim import PrivacyClaim
from dpaudit.claim_file import read_claim_file
from dpaudit.claim_text import claim_file_text
from dpaudit.errors import DpauditError
from dpaudit.scheme import Poisson, Shuffle, WeightedPoisson
from dpaudit.training_file import DEMO, interpret, read_training_file

GOOD = """
[model]
name = "mlp"
[data]
name = "digits"
[training]
scheme = { name = "poisson", rate = 0.1 }
steps = 5
delta = 1e-5
noise_multiplier = 1
learning_rate = 0.1
"""


def read(text):
    return interpret(tomllib.loads(text), None)


def test_the_demo_and_a_plain_file_are_read(tmp_path) -> None:
    assert read(DEMO).training.target_epsilon == 3.0
    path = tmp_path / "train.toml"
    path.write_text(GOOD)
    file = read_training_file(path)
    assert file.path == path
    assert file.training.noise_multiplier == 1
    assert file.training.clipping == "bk_mix_opt"
    assert file.model.name == "mlp"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("steps = 5", "step = 5", "unknown key 'step'.*Did you mean 'steps'"),
        ("[model]", "[modle]", "unknown key 'modle'.*Did you mean 'model'"),
        ("steps = 5", "", "lacks.*steps"),
        ("steps = 5", "steps = 0", "steps = 0 must be a whole number >= 1"),
        ("steps = 5", "steps = true", "steps = True must be a whole"),
        ("delta = 1e-5", "delta = 2.0", "delta = 2.0 must be below 1"),
        ("noise_multiplier = 1", "noise_multiplier = nan", "noise_multiplier = nan must be a finite"),
        ("noise_multiplier = 1", "", "needs noise_multiplier or target_epsilon"),
        ("learning_rate = 0.1", "learning_rate = -1", "learning_rate = -1 must be"),
        ("learning_rate = 0.1", 'learning_rate = 0.1\noptimizer = "adamm"', "Did you mean 'adam"),
        ("learning_rate = 0.1", "learning_rate = 0.1\nfixed_shape = true", "needs physical_batch_size"),
        ("learning_rate = 0.1", "learning_rate = 0.1\ncompile = 1", "compile = 1 must be true or false"),
        ("learning_rate = 0.1", "learning_rate = 0.1\nclip_norm = 0", "clip_norm = 0 must be"),
        ("learning_rate = 0.1", 'learning_rate = 0.1\ngroups = "layers"', "groups = 'layers' must be"),
        ("learning_rate = 0.1", 'learning_rate = 0.1\nclip_norm = { all = "x" }', "clip_norm = .* must be"),
        ("learning_rate = 0.1", 'learning_rate = 0.1\ngroups = { "0.weight" = 1 }', "name of its group"),
        ("noise_multiplier = 1", "noise_multiplier = false", "noise_multiplier = False must be"),
        ('{ name = "poisson", rate = 0.1 }', '"poisson"', "scheme = 'poisson' must be a table"),
        ('name = "digits"', "", r"\[data\] needs either name or file"),
        ('name = "mlp"', 'name = "mlp"\nfile = "a.py:b"', r"\[model\] needs either name or file"),
    ],
)  # fmt: skip
def test_slips_are_named(old, new, words) -> None:
    assert old in GOOD
    with pytest.raises(DpauditError) as caught:
        read(GOOD.replace(old, new, 1))
    error = caught.value
    assert __import__("re").search(words, f"{error.message} {error.hint}")


def test_the_message_begins_with_the_file(tmp_path) -> None:
    path = tmp_path / "train.toml"
    path.write_text(GOOD.replace("steps", "stpes"))
    with pytest.raises(DpauditError, match=r"train\.toml: unknown key 'stpes'"):
        read_training_file(path)
    path.write_text("= 3")
    with pytest.raises(DpauditError, match="is not TOML"):
        read_training_file(path)
    with pytest.raises(DpauditError, match=r"absent\.toml"):
        read_training_file(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    "claim",
    [
        PrivacyClaim(),
        PrivacyClaim(epsilon=0.1 + 0.2, delta=1e-5, scheme=Poisson(1 / 3), steps=7, num_records=10),
        PrivacyClaim(epsilon=float("inf"), scheme=Shuffle(8, True, True), secret_sample=False),
        PrivacyClaim(scheme=WeightedPoisson((0.25, 1.0)), unit='a "user"\n\x7f\\', clipping="flat"),
    ],
)
def test_a_claim_that_is_written_reads_the_same(claim, tmp_path) -> None:
    path = tmp_path / "claim.toml"
    path.write_text(claim_file_text(claim, title="T", target="traces/t.npz"))
    file = read_claim_file(path)
    assert file.claim == claim
    assert file.title == "T"
    assert file.target == str(tmp_path / "traces/t.npz")
