"""Calls of layer norm and group norm, whose per-record gradients are as small as the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.booked_call import Use
from dpaudit.dpsgd.clipping.books import GradientBook
from dpaudit.dpsgd.clipping.processor import each_thread, suits_kernels

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class LayerNormLayer:
    """Layer norm over the trailing dimensions `shape`."""

    use: Use
    weight: Tensor | None
    bias: Tensor | None
    shape: tuple[int, ...]
    eps: float

    def forward(self, data: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the output; keep the input and its statistics."""
        output, mean, scale = torch.native_layer_norm(data, self.shape, self.weight, self.bias, self.eps)
        return output, (data, mean, scale)

    def backward(self, saved: tuple[Tensor, ...], grad: Tensor, wants_input: bool) -> Tensor | None:
        """Book weight and bias."""
        data, mean, scale = saved
        grad = grad.contiguous().to(data.dtype)
        weight = None if self.weight is None else self.weight.to(data.dtype)
        if weight is not None and _suits_kernel(self.use, data, mean):
            from dpaudit.dpsgd.clipping.normalisation_kernels import layer_norm_backward

            rows = data.contiguous().view(-1, weight.numel())
            statistics = (mean.reshape(-1), scale.reshape(-1))
            back = _by_kernel(self.use, layer_norm_backward, grad.view_as(rows), rows, statistics, weight)
            return back.view_as(data)
        _book_scale_and_shift(self.use, (data - mean) * scale, grad, len(self.shape))
        if not wants_input:
            return None
        found: Tensor = _aten.native_layer_norm_backward(
            grad, data.contiguous(), self.shape, mean, scale, weight, weight, [True, False, False]
        )[0]
        return found


@dataclass(frozen=True, slots=True)
class GroupNormLayer:
    """Group norm of (images, channels, *space); instance norm where there is a group for each channel."""

    use: Use
    weight: Tensor | None
    bias: Tensor | None
    groups: int
    eps: float

    def forward(self, data: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the output; keep the input and its statistics."""
        data = data.contiguous()
        images, channels = data.shape[:2]
        area = data[0, 0].numel()
        weight, bias = (
            None if tensor is None else tensor.to(data.dtype) for tensor in (self.weight, self.bias)
        )
        output, mean, scale = torch.native_group_norm(
            data, weight, bias, images, channels, area, self.groups, self.eps
        )
        return output, (data, mean, scale)

    def backward(self, saved: tuple[Tensor, ...], grad: Tensor, wants_input: bool) -> Tensor | None:
        """Book weight and bias."""
        data, mean, scale = saved
        channels, area = data.shape[1], data[0, 0].numel()
        grad = grad.contiguous().to(data.dtype)
        weight = None if self.weight is None else self.weight.to(data.dtype)
        if weight is not None and _suits_kernel(self.use, data, mean):
            from dpaudit.dpsgd.clipping.normalisation_kernels import group_norm_backward

            images, statistics = data.view(-1, channels, area), (mean.contiguous(), scale.contiguous())
            back = _by_kernel(self.use, group_norm_backward, grad.view_as(images), images, statistics, weight)
            return back.view_as(data)
        grouped = data.reshape(len(data), self.groups, -1)
        normal = ((grouped - mean.unsqueeze(2)) * scale.unsqueeze(2)).view(data.shape)
        _book_scale_and_shift(self.use, normal.movedim(1, -1), grad.movedim(1, -1), 1)
        if not wants_input:
            return None
        found: Tensor = _aten.native_group_norm_backward(
            grad, data, mean, scale, weight, len(data), channels, area, self.groups, [True, False, False]
        )[0]
        return found


def _suits_kernel(use: Use, data: Tensor, mean: Tensor) -> bool:
    consecutive = use.axis.dim == 0 and use.axis.record_major
    return consecutive and not use.ledger.chooser.fused and suits_kernels(data, mean)


def _by_kernel(
    use: Use, kernel: Callable[..., Any], grad: Tensor, data: Tensor, statistics: tuple[Tensor, ...],
    weight: Tensor,
) -> Tensor:  # fmt: skip
    """Give the input gradient and book weight and bias, in one pass over contiguous (rows, ...)."""
    batch, back = use.ledger.batch, torch.empty_like(data)
    weights, biases = data.new_zeros(2, batch, weight.numel())
    split = (grad, data, *statistics, back, weights, biases)
    each_thread(kernel, batch, split, (weight.contiguous().view(-1),))
    _book(use, weights.view(batch, *weight.shape), biases.view(batch, *weight.shape))
    return back


def _book_scale_and_shift(use: Use, normal: Tensor, grad: Tensor, trailing: int) -> None:
    """Book y = normal * weight + bias over the `trailing` last dimensions."""
    normal, grad = use.records_first(normal), use.records_first(grad)
    shape = normal.shape[normal.dim() - trailing :]
    rows = (len(normal), -1, *shape)
    _book(use, (normal * grad).reshape(rows).sum(1), grad.reshape(rows).sum(1))


def _book(use: Use, weights: Tensor, biases: Tensor) -> None:
    for source, gradients in ((use.weight, weights), (use.bias, biases)):
        if source is not None:
            double = gradients.dtype == torch.float64
            use.ledger.add(source, GradientBook(gradients if double else gradients.float()))
