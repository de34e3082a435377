"""Calls of layer norm and group norm, whose per-record gradients are as small as the parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.booked_call import Use
from dpaudit.dpsgd.clipping.books import GradientBook

_aten = torch.ops.aten
# The fused backward of one record costs a call (about 10 microseconds); it saves a pass over the data. It
# pays from about this many elements in a record, on a processor.
_WORTH_A_CALL = 2**14


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
        weight = None if self.weight is None else self.weight.to(data.dtype)
        grad = grad.contiguous().to(data.dtype)

        def fused(grad: Tensor, data: Tensor, mean: Tensor, scale: Tensor, wanted: list[bool]) -> Any:
            return _aten.native_layer_norm_backward(
                grad, data, self.shape, mean, scale, weight, weight, wanted
            )

        if self.weight is not None and _by_record(self.use, data):
            return _each_record(self.use, fused, grad, (data.contiguous(), mean, scale))
        _book_scale_and_shift(self.use, (data - mean) * scale, grad, len(self.shape))
        return fused(grad, data.contiguous(), mean, scale, [True, False, False])[0] if wants_input else None


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
        weight = None if self.weight is None else self.weight.to(data.dtype)
        grad = grad.contiguous().to(data.dtype)

        def fused(grad: Tensor, data: Tensor, mean: Tensor, scale: Tensor, wanted: list[bool]) -> Any:
            return _aten.native_group_norm_backward(
                grad, data, mean, scale, weight, len(data), channels, area, self.groups, wanted
            )

        if self.weight is not None and _by_record(self.use, data):
            return _each_record(self.use, fused, grad, (data, mean, scale))
        grouped = data.reshape(len(data), self.groups, -1)
        normal = ((grouped - mean.unsqueeze(2)) * scale.unsqueeze(2)).view(data.shape)
        use = self.use
        _book_scale_and_shift(use, normal.movedim(1, -1), grad.movedim(1, -1), 1)
        return fused(grad, data, mean, scale, [True, False, False])[0] if wants_input else None


def _by_record(use: Use, data: Tensor) -> bool:
    leading = use.axis.dim == 0 and use.axis.record_major and not use.ledger.chooser.fused
    return leading and not data.is_cuda and data.numel() >= _WORTH_A_CALL * use.ledger.batch


def _each_record(use: Use, fused: Callable[..., Any], grad: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
    """Run the fused backward on one record after the other: input, weight and bias gradients in one pass."""
    batch = use.ledger.batch
    parts = [
        fused(*arguments, [True, True, True])
        for arguments in zip(*(tensor.tensor_split(batch) for tensor in (grad, *saved)), strict=True)
    ]
    inputs, weights, biases = zip(*parts, strict=True)
    _book(use, torch.stack(weights), torch.stack(biases))
    return torch.cat(inputs)


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
