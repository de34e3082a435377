"""Products of matrices by the fastest library at hand.

A processor build of PyTorch multiplies by a BLAS, and brings oneDNN for convolutions. Which of them is faster
depends on the processor and the shapes: on processors for which the BLAS was not tuned oneDNN gains a tenth,
and half for wide outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.processor import recording


def ways_to_multiply(data: Tensor, weight: Tensor, bias: Tensor | None) -> Mapping[str, Callable[[], Tensor]]:
    """Give the ways to data (..., d) times weight (p, d) transposed, plus bias: PyTorch's own comes first."""
    ways = {"blas": lambda: F.linear(data, weight, bias)}
    operator = _onednn_linear()
    if operator is None or not data.is_contiguous() or recording():
        return ways
    tensors = [tensor for tensor in (data, weight, bias) if tensor is not None]
    plain = all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors)
    if not plain or not data.numel() or torch.is_autocast_enabled("cpu"):
        return ways
    rows = data.view(-1, data.shape[-1])

    def by_onednn() -> Tensor:
        product: Tensor = operator(rows, weight, bias, "none", [], "")
        return product.view(*data.shape[:-1], -1)

    return ways | {"onednn": by_onednn}


@cache
def _onednn_linear() -> Any:
    """The operator that PyTorch's compiler calls for a linear layer in oneDNN; None where it is not there."""
    operator = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    try:  # another version of PyTorch may want other arguments
        ones = torch.ones(2, 2)
        given = None if operator is None else operator(ones, ones, None, "none", [], "")
    except (RuntimeError, TypeError):
        return None
    return operator if given is not None and bool((given == 2).all()) else None
