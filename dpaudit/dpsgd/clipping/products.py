"""Products of matrices by the fastest library at hand.

A processor build of PyTorch multiplies by a BLAS, and brings oneDNN for convolutions. Which of them is faster
depends on the processor and the shapes: where the BLAS was not tuned for the processor, oneDNN may take half
of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.processor import recording

Ways = Mapping[str, Callable[[], Tensor]]
"""Ways to compute one thing, by name; the first is taken where nothing is known of them."""
Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Fastest = Callable[[tuple[object, ...], Ways], Tensor]
"""Computes by the fastest of several ways, given what tells the same task again."""


def first_way(key: tuple[object, ...], ways: Ways) -> Tensor:
    """Compute by the first way."""
    return next(iter(ways.values()))()


def multiplied(
    fastest: Fastest, task: str, data: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Data (..., d) times weight (p, d) transposed, plus bias (p,).

    What is the fastest is found anew where there are twice as many rows, or twice as many products to add.
    """
    rows, inner = math.prod(data.shape[:-1]), data.shape[-1]
    key = (task, rows.bit_length(), inner.bit_length(), len(weight).bit_length())
    return fastest(key, ways_to_multiply(data, weight, bias))


def multiplied_each(
    fastest: Fastest, task: str, left: Tensor, right: Tensor, out: Tensor | None = None
) -> Tensor:
    """Products of matrices (batch, m, k) and (batch, k, n), one by one, into `out` if it is there."""
    ways = {"blas": lambda: torch.bmm(left, right) if out is None else torch.bmm(left, right, out=out)}
    operator = None if recording() else _operator_for(left, right)  # a graph would have a node a record
    if operator is not None:

        def by_onednn() -> Tensor:
            products = left.new_empty(*left.shape[:2], right.shape[2]) if out is None else out
            for place, one, other in zip(products, left, right, strict=True):
                place.copy_(operator(one, other.t(), None))
            return products

        ways["onednn"] = by_onednn
    return fastest((task, len(left).bit_length(), *left.shape[1:], right.shape[2]), ways)


def ways_to_multiply(data: Tensor, weight: Tensor, bias: Tensor | None) -> Ways:
    """Give the ways to `multiplied`: PyTorch's own comes first."""
    ways = {"blas": lambda: F.linear(data, weight, bias)}
    operator = _operator_for(data, weight, *([] if bias is None else [bias.unsqueeze(0)]))
    if operator is not None:

        def by_onednn() -> Tensor:
            rows = data if data.dim() == 2 else data.reshape(-1, data.shape[-1])
            return operator(rows, weight, bias).view(*data.shape[:-1], -1)

        ways["onednn"] = by_onednn
    return ways


def _operator_for(*tensors: Tensor) -> Product | None:
    """A product by oneDNN, where it is fast: for dense tensors of single precision."""
    if torch.is_autocast_enabled("cpu") or not all(map(_is_plain, tensors)):
        return None
    if onednn_linear() is not None and recording():
        from dpaudit.dpsgd.clipping.operators import product_operator

        return product_operator
    return onednn_linear()


def _is_plain(tensor: Tensor) -> bool:
    dense = tensor.is_contiguous() or tensor.transpose(-1, -2).is_contiguous()
    return dense and tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() > 0


@cache
def onednn_linear() -> Product | None:
    """The product that PyTorch's compiler calls for a linear layer in oneDNN; None where it is not there."""

    def multiply(data: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(data, weight, bias, "none", [], "")
        return product

    ones = torch.ones(2, 2)
    try:  # another version of PyTorch may want other arguments
        return multiply if bool((multiply(ones, ones, None) == 2).all()) else None
    except (AttributeError, RuntimeError, TypeError):
        return None
