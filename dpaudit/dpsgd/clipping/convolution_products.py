"""The gradients of a convolution, by the library and by plain products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.processor import each_thread, suits_kernels
from dpaudit.dpsgd.clipping.products import Fastest, first_way, multiplied

# A kernel of 3 x 3 on images of 4 x 4 meets the padding in 44 of 144 products, on 2 x 2 in 20 of 36. Below
# this share of others a product for each position of the kernel may be faster than the library's convolution,
# which does them all (measured at 512 channels: 0.5 to 1 of its time on 4 x 4, 0.2 to 0.5 on 2 x 2).
_SHARE_INSIDE = 0.7


@dataclass(frozen=True, slots=True)
class Geometry:
    """The arguments of torch.convolution, one entry for each spatial dimension."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int


def is_mostly_padding(inputs: Tensor, grads: Tensor, geometry: Geometry, shape: torch.Size) -> bool:
    """Whether a processor may gain by leaving out the products with what images are padded by."""
    if geometry.transposed or geometry.groups > 1:
        return False
    every = math.prod(grads.shape[2:]) * math.prod(shape[2:])
    met = _meetings(inputs.shape[2:], grads.shape[2:], shape[2:], geometry)
    inside: int = sum(math.prod(side.stop - side.start for side in sides) for _, _, sides in met)
    return inside <= _SHARE_INSIDE * every


def weight_gradient(inputs: Tensor, grads: Tensor, geometry: Geometry, shape: torch.Size) -> Tensor:
    """Weight gradient of a convolution, (images, channels, *space) on both sides."""
    blank = inputs.new_empty(1).expand(shape)
    return _convolution_backward(grads, inputs, blank, geometry, [False, True, False])[1]


def gradient_by_offsets(
    inputs: Tensor, grads: Tensor, geometry: Geometry, shape: torch.Size, fastest: Fastest = first_way
) -> Tensor:
    """Weight gradient of a plain convolution by one product for each position of the kernel.

    Only pixels that meet an output there take part: nothing is multiplied by padding.
    """
    pixels, outputs = inputs.movedim(1, -1).contiguous(), grads.movedim(1, -1).contiguous()
    products = inputs.new_empty(shape[0], math.prod(shape[2:]), shape[1])
    met = _meetings(inputs.shape[2:], grads.shape[2:], shape[2:], geometry)
    for place, sources, targets in met:
        seen = pixels[:, *sources].reshape(-1, shape[1]).contiguous()
        if not len(seen):
            products[:, place] = 0
            continue
        entered = outputs[:, *targets].reshape(-1, shape[0]).contiguous()
        products[:, place] = multiplied(fastest, "offset", entered.t(), seen.t())
    if not suits_kernels(products):
        return products.transpose(1, 2).reshape(shape)
    from dpaudit.dpsgd.clipping.turning_kernel import turn

    gradient = products.new_empty(shape)
    each_thread(turn, len(products), (products, gradient.flatten(2)))
    return gradient


def _meetings(
    inside: torch.Size, outside: torch.Size, kernel: torch.Size, geometry: Geometry
) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
    """For each position of the kernel: its number, the pixels that it sees, the outputs that they enter."""
    axes = [
        [_meeting(offset * wide - margin, step, size, count) for offset in range(extent)]
        for extent, wide, margin, step, size, count in zip(
            kernel, geometry.dilation, geometry.padding, geometry.stride, inside, outside, strict=True
        )
    ]
    for place, sides in enumerate(itertools.product(*axes)):
        yield place, tuple(source for source, _ in sides), tuple(target for _, target in sides)


def _meeting(start: int, step: int, size: int, count: int) -> tuple[slice, slice]:
    """Along one axis, where output t sees pixel start + step * t: the pixels there are, and their outputs."""
    low = max(0, -(start // step))
    high = max(low, min(count, (size - 1 - start) // step + 1))
    first = start + step * low
    return slice(first, first + step * (high - low), step) if high > low else slice(0, 0), slice(low, high)


def input_gradient(inputs: Tensor, grads: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Input gradient of a convolution."""
    return _convolution_backward(grads, inputs, weight, geometry, [True, False, False])[0]


def _convolution_backward(
    grads: Tensor, inputs: Tensor, weight: Tensor, geometry: Geometry, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grads, inputs, weight, None, geometry.stride, geometry.padding, geometry.dilation,
        geometry.transposed, geometry.output_padding, geometry.groups, wanted,
    )  # fmt: skip
    return result
