"""Gradients of positions that cancel: what remains is rounding, and must still not pass the clip norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dpaudit.dpsgd import ClippingEngine
from dpaudit.dpsgd.clipping import gram_kernels, linear
from dpaudit.dpsgd.clipping.embedding import EmbeddingBook
from dpaudit.dpsgd.clipping.ledger import Entry, combined_squares
from dpaudit.dpsgd.clipping.linear import LinearBook, _gram_in_blocks, gram_squared_norms
from dpaudit.dpsgd.clipping.sources import Source

from .zoo import MODES


def cancelling(length, scale, records=32, features=64):
    """Inputs that are nearly the same at all positions, gradients of alternating sign; float32."""
    torch.manual_seed(1)
    inputs = torch.randn(records, 1, features).repeat(1, length, 1) * scale
    inputs[:, ::2] += 1e-4 * scale * torch.randn(records, (length + 1) // 2, features)
    grads = torch.randn(records, 1, features).repeat(1, length, 1) * scale
    grads[:, 1::2] *= -1
    return inputs, grads


def exact(inputs, grads):
    return torch.einsum("btd,btp->bdp", inputs.double(), grads.double()).flatten(1).norm(dim=1)


@pytest.mark.parametrize("length", [2, 32, 300])
@pytest.mark.parametrize("mode", MODES)
def test_no_record_passes_the_clip_norm(mode, length):
    for scale in (1.0, 30.0, 100.0):
        inputs, grads = cancelling(length, scale)
        loss = lambda outputs, targets: (outputs * targets).flatten(1).sum(1)  # noqa: E731
        engine = ClippingEngine(nn.Linear(64, 64, bias=False), loss, clip_norm=1.0, clipping=mode)
        found = engine(inputs, grads)
        assert float((found.factors[0].double() * exact(inputs, grads)).max()) < 1.001


def test_every_way_to_a_gram_norm_is_on_the_safe_side():
    for length in (2, 33, 300):
        inputs, grads = cancelling(length, 30.0)
        for squares in (gram_squared_norms(inputs, grads), _gram_in_blocks(inputs, grads, 128)):
            assert (squares.double().sqrt() > 0.999 * exact(inputs, grads)).all()


def test_without_cancellation_hardly_anything_is_added():
    torch.manual_seed(2)
    inputs, grads = torch.randn(8, 300, 64), torch.randn(8, 300, 64)
    assert torch.allclose(gram_squared_norms(inputs, grads).double().sqrt(), exact(inputs, grads), rtol=3e-4)


def test_a_table_and_its_head_may_cancel_too():
    """The same matrix through look-ups and through the head, with gradients that nearly cancel."""
    torch.manual_seed(3)
    states = torch.randn(16, 8) * 30
    pull = -states + 1e-4 * torch.randn(16, 8)  # d loss / d looked-up row 0
    table = EmbeddingBook(torch.zeros(16, 1, dtype=torch.long), pull.unsqueeze(1), 3, None)
    push = torch.zeros(16, 1, 3)
    push[:, :, 0] = 1.0
    head = LinearBook(states.unsqueeze(1), push)
    source = Source(nn.Parameter(torch.zeros(3, 8)), ("weight",), True)
    entries = [Entry(source, table), Entry(source, head)]
    squares = combined_squares("weight", source.tensor, entries, 16, 16)
    truth = (pull.double() + states.double()).norm(dim=1)
    assert (squares.double().sqrt() > 0.999 * truth).all()


def test_the_kernel_and_the_tensors_add_as_much():
    assert gram_kernels.ROUNDING == linear.ROUNDING
