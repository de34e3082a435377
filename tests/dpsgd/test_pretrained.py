"""A pretrained model that a package ships: pesto-pitch, a pitch tracker with 28,000 parameters.

pip install --no-deps pesto-pitch
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dpaudit.dpsgd import BatchSampler, PrivateTrainer, clipped_gradients, make_private
from dpaudit.scheme import Poisson

from .zoo import MODES, brute_force, relative_error

SPEC = importlib.util.find_spec("pesto")
pytestmark = pytest.mark.skipif(SPEC is None, reason="pesto-pitch is not installed")


@pytest.fixture
def encoder(monkeypatch):
    """Build its encoder from the weights it ships, without its audio dependencies."""
    bare = types.ModuleType("pesto")
    bare.__path__ = list(SPEC.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "pesto", bare)
    from pesto.model import Resnet1d

    path = Path(bare.__path__[0]) / "weights" / "mir-1k.ckpt"
    content = torch.load(path, map_location="cpu", weights_only=True)
    model = Resnet1d(**content["hparams"]["encoder"])
    weights = {}
    for name, value in content["state_dict"].items():
        if name.startswith("encoder."):  # written by an older version of the class
            new = name.removeprefix("encoder.").replace("prefilt_layers.0.", "prefilt_layers.0.0.")
            weights[new] = value
    model.load_state_dict(weights)
    model.final_norm = torch.nn.Identity()  # logits
    return model


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def tones(shifts):
    """Spectra over 264 logarithmic frequency bins of a harmonic tone, each shifted by so many bins."""
    bins = torch.arange(264.0)
    partials = 36 * torch.log2(torch.arange(1.0, 7.0))
    spectra = [
        sum(torch.exp(-((bins - 60 - shift - partial) ** 2)) / (1 + i) for i, partial in enumerate(partials))
        for shift in shifts
    ]
    return torch.stack(spectra).unsqueeze(1)


def test_the_weights_know_pitch(encoder) -> None:
    found = encoder.eval()(tones([0, 9, 30])).argmax(1)
    assert (found - found[0]).tolist() == [0, 9, 30]


@pytest.mark.parametrize("mode", MODES)
def test_clipped_gradients_are_exact(encoder, mode) -> None:
    model = encoder.double().eval()
    inputs, targets = tones(range(0, 50, 10)).double(), torch.tensor([200, 210, 5, 230, 240])
    expected, norms, _ = brute_force(model, inputs, targets, loss, 1.0)
    found = clipped_gradients(model, inputs, targets, loss, clip_norm=1.0, clipping=mode)
    assert relative_error(found.sums, expected) < 1e-10
    assert torch.allclose(found.norms, norms, rtol=1e-10)


def test_it_is_tuned_privately_to_a_new_pitch(encoder) -> None:
    """To name every tone one bin too high: the loss falls, by noisy steps, dropout included."""
    shifts = torch.arange(100)
    inputs = tones(shifts)
    with torch.no_grad():
        targets = encoder.eval()(inputs).argmax(1) + 1
    encoder.train()
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.3)
    private = make_private(
        encoder, optimizer, loss=loss, clip_norm=1.0, noise_multiplier=0.5, expected_batch_size=24,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    sampler = BatchSampler(Poisson(0.2), len(inputs), torch.Generator().manual_seed(1))
    trainer = PrivateTrainer(private, sampler, lambda numbers: (inputs[numbers], targets[numbers]))
    torch.manual_seed(2)
    losses = [report.loss for report in trainer.run(40)]
    assert losses[0] > 10
    assert sum(losses[-5:]) < 5
