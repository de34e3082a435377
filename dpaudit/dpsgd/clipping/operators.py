"""A kernel, and a product that the compiler refuses, as operators: in a recorded graph each is one node."""

from __future__ import annotations

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.processor import each_thread


@torch.library.custom_op("dpaudit::gram_norms", mutates_args=())
def gram_norms_operator(inputs: Tensor, grads: Tensor) -> Tensor:
    """Squared norms (batch,) from contiguous inputs (batch, T, d) and gradients (batch, T, p)."""
    from dpaudit.dpsgd.clipping.gram_kernels import gram_norms

    norms = inputs.new_zeros(len(inputs))
    each_thread(gram_norms, len(inputs), (inputs, grads, norms))
    return norms


@gram_norms_operator.register_fake
def _(inputs: Tensor, grads: Tensor) -> Tensor:
    return inputs.new_empty(len(inputs))


@torch.library.custom_op("dpaudit::product", mutates_args=())
def product_operator(data: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Data (rows, d) times weight (p, d) transposed, plus bias (p,), by oneDNN."""
    from dpaudit.dpsgd.clipping.products import onednn_linear

    multiply = onednn_linear()
    if multiply is None:
        raise RuntimeError("this build of PyTorch has no oneDNN")
    return multiply(data, weight, bias)


@product_operator.register_fake
def _(data: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return data.new_empty(len(data), len(weight))
