"""How much memory the books may take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dpaudit.dpsgd.clipping.books import working_dtype

# Per-record gradients that one layer may hold at once, where the device does not tell: 1 GiB.
_DEFAULT_BUDGET = 2**30


def device_of(model: nn.Module) -> torch.device:
    """The device of the first parameter."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def instantiation_budget(model: nn.Module) -> int:
    """Bytes that one layer's per-record gradients may take: a quarter of a CUDA device's free memory."""
    device = device_of(model)
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else _DEFAULT_BUDGET


def book_budget(parameters: Iterable[Tensor], saved: float) -> int:
    """Bytes that all books may take together without the step needing more than a non-private one.

    A non-private step holds, at the end of its forward pass, what it saved for the backward pass, and at the
    end of its backward pass the gradients. Books are complete when what was saved is no longer needed, and
    make way for the sums, which are as large as the gradients.

    Args:
      parameters: the trainable ones.
      saved: bytes that the forward pass saves.
    """
    sums = sum(parameter.numel() * working_dtype(parameter).itemsize for parameter in parameters)
    return int(max(sums, saved))


@contextmanager
def saved_for_backward(but: Iterable[Tensor]) -> Iterator[dict[int, int]]:
    """Note the size of each block of memory that is saved for the backward pass.

    Args:
      but: tensors that do not count, as they are there anyway.

    Yields:
      Bytes by address, filled in as the forward pass runs.
    """
    blocks: dict[int, int] = {}
    known = {tensor.untyped_storage().data_ptr() for tensor in but}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            blocks[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield blocks
