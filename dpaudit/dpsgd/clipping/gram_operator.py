"""The kernel of Gram norms as an operator, so that a recorded graph has it as one node."""

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
