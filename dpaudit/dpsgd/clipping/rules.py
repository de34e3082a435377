"""The functions whose parameters have a rule, and how their arguments are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.booked_call import Layer, Use
from dpaudit.dpsgd.clipping.convolution_products import Geometry
from dpaudit.dpsgd.clipping.layers import ConvolutionLayer, EmbeddingBagLayer, EmbeddingLayer, LinearLayer
from dpaudit.dpsgd.clipping.normalisation import GroupNormLayer, LayerNormLayer


class RefusedCall(Exception):
    """A call whose gradient is no sum over records, whatever is done; the message says why."""


class NoRule(Exception):
    """A call that its rule does not cover; the message says why."""


@dataclass(frozen=True, slots=True)
class BoundCall:
    """A call, its arguments sorted.

    Attributes:
      data: what depends on the records.
      weight: the first parameter.
      bias: the second.
      trailing: how many of the last dimensions of `data` cannot enumerate records.
      layer: makes the differentiable call from its use, weight and bias.
      is_plain: nothing but the parameters and shapes decides the gradient (no index is left out).
    """

    data: Tensor
    weight: Tensor | None
    bias: Tensor | None
    trailing: int
    layer: Callable[[Use, Any, Any], Layer]
    is_plain: bool = True


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> BoundCall:
    return BoundCall(input, weight, bias, 1, LinearLayer)


def _matmul(input: Tensor, other: Tensor) -> BoundCall:
    if other.dim() != 2 or input.dim() < 2:
        raise NoRule("a matrix product has a rule where the parameter is a matrix, on the right")
    return BoundCall(input, other, None, 1, lambda use, weight, bias: LinearLayer(use, weight, bias, True))


def _mm(input: Tensor, mat2: Tensor) -> BoundCall:
    return _matmul(input, mat2)


def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> BoundCall:
    if beta != 1 or alpha != 1 or input.dim() != 1:
        raise NoRule("addmm has a rule for a bias vector, beta = alpha = 1")
    return BoundCall(mat1, mat2, input, 1, lambda use, weight, bias: LinearLayer(use, weight, bias, True))


def _convolution(dims: int, transposed: bool) -> Callable[..., BoundCall]:
    def spread(value: int | tuple[int, ...]) -> tuple[int, ...]:
        values = (value,) if isinstance(value, int) else tuple(value)
        return values * dims if len(values) == 1 else values

    def bind_convolution(
        data: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
        groups: int, output_padding: Any,
    ) -> BoundCall:  # fmt: skip
        if data.dim() != dims + 2:
            raise NoRule("the input has no batch dimension")
        stride, dilation = spread(stride), spread(dilation)
        if isinstance(padding, str):
            data, padding = _explicit_padding(data, weight, padding, dilation)
        geometry = Geometry(stride, spread(padding), dilation, transposed, spread(output_padding), groups)
        return BoundCall(
            data, weight, bias, dims + 1, lambda use, w, b: ConvolutionLayer(use, w, b, geometry)
        )

    def plain(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> BoundCall:  # fmt: skip
        return bind_convolution(input, weight, bias, stride, padding, dilation, groups, 0)

    def reverse(
        input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> BoundCall:  # fmt: skip
        return bind_convolution(input, weight, bias, stride, padding, dilation, groups, output_padding)

    return reverse if transposed else plain


def _explicit_padding(
    data: Tensor, weight: Tensor, padding: str, dilation: tuple[int, ...]
) -> tuple[Tensor, tuple[int, ...]]:
    """Turn 'same' and 'valid' into numbers; the side that 'same' makes wider is the right one."""
    if padding == "valid":
        return data, (0,) * len(dilation)
    totals = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
    if all(total % 2 == 0 for total in totals):
        return data, tuple(total // 2 for total in totals)
    margins = [margin for total in reversed(totals) for margin in (total // 2, total - total // 2)]
    return F.pad(data, margins), (0,) * len(dilation)


def _embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> BoundCall:  # fmt: skip
    if max_norm is not None:
        raise RefusedCall(
            "max_norm rescales rows of the table during the forward pass, for all records at once"
        )
    if scale_grad_by_freq:
        raise RefusedCall("scale_grad_by_freq divides by counts over the whole batch")
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    return BoundCall(
        input,
        weight,
        None,
        0,
        lambda use, table, bias: EmbeddingLayer(use, table, padding_idx),
        padding_idx is None,
    )


def _embedding_bag(
    input: Tensor, weight: Tensor, offsets: Tensor | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
    per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> BoundCall:  # fmt: skip
    bound = _embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    if mode == "max" or per_sample_weights is not None:
        raise NoRule("embedding_bag has a rule for sums and means without weights")
    if padding_idx is not None and padding_idx < 0:
        padding_idx += weight.shape[0]
    mean = mode == "mean"
    return replace(
        bound,
        trailing=1,
        layer=lambda use, table, bias: EmbeddingBagLayer(use, table, padding_idx, mean),
        is_plain=False,
    )


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> BoundCall:  # fmt: skip
    shape = tuple(normalized_shape)
    return BoundCall(input, weight, bias, len(shape), lambda use, w, b: LayerNormLayer(use, w, b, shape, eps))


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> BoundCall:  # fmt: skip
    trailing = input.dim() - 1
    return BoundCall(
        input, weight, bias, trailing, lambda use, w, b: GroupNormLayer(use, w, b, num_groups, eps)
    )


def _instance_norm(
    input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
    momentum: float = 0.1, eps: float = 1e-5,
) -> BoundCall:  # fmt: skip
    if running_mean is not None or not use_input_stats:
        raise RefusedCall("running statistics mix records; set track_running_stats=False")
    return _group_norm(input, input.shape[1], weight, bias, eps)


#: How to read the arguments of each function that has a rule.
RULES: Mapping[Callable[..., Any], Callable[..., BoundCall]] = {
    F.linear: _linear,
    torch.matmul: _matmul, Tensor.matmul: _matmul, Tensor.__matmul__: _matmul,
    torch.mm: _mm, Tensor.mm: _mm, torch.addmm: _addmm, Tensor.addmm: _addmm,
    F.conv1d: _convolution(1, False), F.conv2d: _convolution(2, False), F.conv3d: _convolution(3, False),
    F.conv_transpose1d: _convolution(1, True), F.conv_transpose2d: _convolution(2, True),
    F.conv_transpose3d: _convolution(3, True),
    F.embedding: _embedding, F.embedding_bag: _embedding_bag, F.layer_norm: _layer_norm,
    F.group_norm: _group_norm, F.instance_norm: _instance_norm,
}  # fmt: skip
