"""The same results on a CUDA device; skipped where there is none."""

from __future__ import annotations

import copy

import pytest
import torch

from dpaudit.dpsgd import NoiseSource, clipped_gradients

from .zoo import MODES, ZOO, relative_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def loss(outputs, targets):
    flat = outputs.reshape(len(outputs), -1)
    return flat.sin().sum(1) + (flat**2).mean(1) * targets


NAMES = [
    "mlp",
    "conv stack",
    "conv2d grouped",
    "transformer layer",
    "tied embedding and head",
    "lstm",
    "gru cell",
    "embedding bag",
    "group norm",
    "vision transformer",
    "layer norm",
]


@pytest.mark.parametrize("name", NAMES)
def test_modes_agree_with_the_processor(name):
    torch.manual_seed(1)
    make_model, make_inputs = ZOO[name]
    model, inputs, targets = make_model().double(), make_inputs(), torch.ones(5, dtype=torch.float64)
    expected = clipped_gradients(model, inputs, targets, loss, clip_norm=0.5, clipping="per_sample")
    device_model = copy.deepcopy(model).cuda()
    for mode in MODES:
        found = clipped_gradients(
            device_model, inputs.cuda(), targets.cuda(), loss, clip_norm=0.5, clipping=mode
        )
        assert torch.allclose(found.norms.cpu(), expected.norms, rtol=1e-9)
        assert relative_error({n: s.cpu() for n, s in found.sums.items()}, expected.sums) < 1e-9


def test_noise_on_the_device():
    tensors = {"a": torch.zeros(200_000, device="cuda")}
    NoiseSource(torch.Generator("cuda").manual_seed(0)).add(tensors, 2.0, 0.5)
    assert abs(float(tensors["a"].std()) - 1) < 0.02
    assert abs(float(tensors["a"].mean())) < 0.02
