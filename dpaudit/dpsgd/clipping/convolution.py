"""Convolutions of one to three dimensions, transposed or not, as per-record weight gradients.

A transposed convolution's weight gradient is that of the convolution it transposes, with input and output
gradient exchanged, so one set of formulas serves both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.books import zero_records
from dpaudit.dpsgd.clipping.linear import gram_squared_norms, rounding
from dpaudit.dpsgd.clipping.processor import recording

# Pixel Gram matrices worked on at once: they should stay in the last cache of a processor.
_GRAM_BYTES = 2**23
# A kernel of 3 x 3 on images of 4 x 4 meets the padding in 44 of 144 products, on 2 x 2 in 20 of 36. Below
# this share of others a product for each position of the kernel is faster than the library's convolution,
# which does them all (measured: 0.5 of its time at 4 x 4 and 512 channels, 0.2 at 2 x 2).
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


class ConvolutionBook:
    """Inputs (batch, images, channels, *space) and output gradients of one convolution weight."""

    __slots__ = ("geometry", "grads", "inputs", "weight_shape")

    def __init__(self, inputs: Tensor, grads: Tensor, geometry: Geometry, weight_shape: torch.Size) -> None:
        self.inputs, self.grads = inputs, grads
        self.geometry, self.weight_shape = geometry, weight_shape

    def squared_norms(self) -> Tensor:
        """Ghost norms, by the cheaper of the two Gram routes."""
        return self.gram_by_shifts() if self.shifts_are_cheaper() else self.gram_of_patches()

    def per_record(self, records: slice) -> Tensor:
        """Instantiate by one weight-gradient convolution for each record."""
        inputs, grads = self.inputs[records], self.grads[records]
        gradients = inputs.new_empty(len(inputs), *self.weight_shape)
        for place, image, grad in zip(gradients, inputs, grads, strict=True):
            place.copy_(weight_gradient(image, grad, self.geometry, self.weight_shape))
        return gradients

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """One weight-gradient convolution over all records."""
        inputs, grads = self.inputs, self.grads
        scale = factors.to(grads.dtype).view(-1, *[1] * (grads.dim() - 1))
        if inputs.numel() < grads.numel():
            inputs = inputs * scale
        else:
            grads = grads * scale
        compute = gradient_by_offsets if self._is_mostly_padding() else weight_gradient
        return compute(inputs.flatten(0, 1), grads.flatten(0, 1), self.geometry, self.weight_shape)

    def _is_mostly_padding(self) -> bool:
        """Whether a processor had better leave out the products with what the images are padded by."""
        geometry = self.geometry
        if self.inputs.is_cuda or recording() or geometry.transposed or geometry.groups > 1:
            return False
        met = _meetings(self.inputs.shape[3:], self.grads.shape[3:], self.weight_shape[2:], geometry)
        every = self.grads[0, 0, 0].numel() * math.prod(self.weight_shape[2:])
        inside: int = sum(math.prod(side.stop - side.start for side in sides) for _, _, sides in met)
        return inside <= _SHARE_INSIDE * every

    def take(self, records: slice) -> ConvolutionBook:
        """Keep some records."""
        return ConvolutionBook(self.inputs[records], self.grads[records], self.geometry, self.weight_shape)

    @property
    def size(self) -> int:
        """Numbers held."""
        return self.inputs.numel() + self.grads.numel()

    def without(self, bad: Tensor) -> ConvolutionBook:
        """Zero some records on both sides."""
        inputs, grads = zero_records(self.inputs, bad), zero_records(self.grads, bad)
        return ConvolutionBook(inputs, grads, self.geometry, self.weight_shape)

    def per_record_by_groups(self) -> Tensor:
        """Instantiate by one convolution whose groups are the records; one image for each record."""
        batch = len(self.inputs)
        inputs, grads = self.inputs.flatten(0, 2).unsqueeze(0), self.grads.flatten(0, 2).unsqueeze(0)
        shape = torch.Size((batch * self.weight_shape[0], *self.weight_shape[1:]))
        geometry = replace(self.geometry, groups=batch * self.geometry.groups)
        return weight_gradient(inputs, grads, geometry, shape).view(batch, *self.weight_shape)

    def per_record_by_patches(self) -> Tensor:
        """Instantiate by one batched product of patches and output gradients."""
        patches, grads = self._patches_and_grads()
        return torch.bmm(grads, patches.transpose(1, 2)).view(len(self.inputs), *self.weight_shape)

    def gram_of_patches(self, budget: int = 2**26) -> Tensor:
        """Ghost norms from unfolded patches, records in chunks of at most `budget` bytes of patches."""
        length, features = self.positions, math.prod(self.weight_shape[1:]) * self.geometry.groups
        chunk = max(1, budget // (length * features * self.inputs.element_size()))
        norms = self.inputs.new_zeros(len(self.inputs))
        for start in range(0, len(norms), chunk):
            records = slice(start, start + chunk)
            patches, grads = self.take(records)._patches_and_grads()
            squares = gram_squared_norms(patches.transpose(1, 2), grads.transpose(1, 2))
            norms[records] = squares.view(-1, self.geometry.groups).sum(1)
        return norms

    def gram_by_shifts(self) -> Tensor:
        """Ghost norms from the Gram matrix of pixels; plain two-dimensional convolutions of one image.

        The Gram matrix of patches is the sum, over the positions of the kernel, of shifted copies of the
        Gram matrix of pixels, so unfolding, and a factor of the kernel's area in the product, are saved.
        """
        pixels = math.prod(self.inputs.shape[3:])
        chunk = max(1, _GRAM_BYTES // (pixels**2 * self.inputs.element_size()))
        parts = [
            _shifted_gram(images[:, 0], grads[:, 0], self)
            for images, grads in zip(
                torch.split(self.inputs, chunk), torch.split(self.grads, chunk), strict=True
            )
        ]
        return torch.cat(parts).clamp_(min=0)

    @property
    def positions(self) -> int:
        """Products that add up in one record's weight gradient: images times output positions."""
        side = self.inputs if self.geometry.transposed else self.grads
        return side.shape[1] * math.prod(side.shape[3:])

    @property
    def can_shift(self) -> bool:
        """Whether `gram_by_shifts` applies, within 64 MiB for the Gram matrix of pixels."""
        pixels = math.prod(self.inputs.shape[3:])
        plain = not self.geometry.transposed and self.geometry.groups == 1 and self.inputs.dim() == 5
        return plain and self.inputs.shape[1] == 1 and pixels <= 1300

    def shifts_are_cheaper(self) -> bool:
        """Compare the multiplications of both Gram routes."""
        if not self.can_shift:
            return False
        height, width = self.weight_shape[2:]
        pixels, features = math.prod(self.inputs.shape[3:]), math.prod(self.weight_shape[1:])
        by_shifts = pixels**2 * self.inputs.shape[2] + self.positions**2 * (height + width)
        return by_shifts < self.positions**2 * features

    def _patches_and_grads(self) -> tuple[Tensor, Tensor]:
        """(batch * groups, channels * kernel, T) and (batch * groups, channels, T)."""
        geometry = self.geometry
        source, other = (self.grads, self.inputs) if geometry.transposed else (self.inputs, self.grads)
        batch, images = source.shape[:2]
        patches = _unfold(source.flatten(0, 1), self.weight_shape[2:], geometry, other.shape[3:])

        def grouped(tensor: Tensor) -> Tensor:
            """(batch * images, channels, size, T) to (batch * groups, features of a group, images * T)."""
            tensor = torch.unflatten(tensor, 0, (batch, images))
            tensor = torch.unflatten(tensor, 2, (geometry.groups, -1))
            return tensor.permute(0, 2, 3, 4, 1, 5).flatten(4, 5).flatten(2, 3).flatten(0, 1)

        return grouped(patches), grouped(other.flatten(0, 1).flatten(2).unsqueeze(2))


def weight_gradient(inputs: Tensor, grads: Tensor, geometry: Geometry, shape: torch.Size) -> Tensor:
    """Weight gradient of a convolution, (images, channels, *space) on both sides."""
    blank = inputs.new_empty(1).expand(shape)
    return _convolution_backward(grads, inputs, blank, geometry, [False, True, False])[1]


def gradient_by_offsets(inputs: Tensor, grads: Tensor, geometry: Geometry, shape: torch.Size) -> Tensor:
    """Weight gradient of a plain convolution by one product for each position of the kernel.

    Only pixels that meet an output there take part: nothing is multiplied by padding.
    """
    pixels, outputs = inputs.movedim(1, -1).contiguous(), grads.movedim(1, -1).contiguous()
    products = inputs.new_zeros(math.prod(shape[2:]), *shape[:2])
    met = _meetings(inputs.shape[2:], grads.shape[2:], shape[2:], geometry)
    for place, sources, targets in met:
        seen = pixels[:, *sources].reshape(-1, shape[1])
        if len(seen):
            torch.mm(outputs[:, *targets].reshape(-1, shape[0]).t(), seen, out=products[place])
    return products.permute(1, 2, 0).reshape(shape)


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


def _unfold(images: Tensor, kernel: torch.Size, geometry: Geometry, positions: torch.Size) -> Tensor:
    """Patches as a view: (images, channels, kernel elements, T)."""
    margins = [margin for pad in reversed(geometry.padding) for margin in (pad, pad)]
    padded = F.pad(images, margins) if any(margins) else images
    count, channels, *space = padded.stride()
    by_kernel = [step * dilation for step, dilation in zip(space, geometry.dilation, strict=True)]
    by_position = [step * stride for step, stride in zip(space, geometry.stride, strict=True)]
    view = padded.as_strided(
        (*padded.shape[:2], *kernel, *positions),
        (count, channels, *by_kernel, *by_position),
        padded.storage_offset(),
    )
    return view.reshape(*padded.shape[:2], math.prod(kernel), math.prod(positions))


def _shifted_gram(images: Tensor, grads: Tensor, book: ConvolutionBook) -> Tensor:
    """Squared norms for images (records, channels, H, W) and output gradients (records, channels, h, w)."""
    geometry, (rows, columns) = book.geometry, book.weight_shape[2:]
    gram = _pixel_gram(images)
    above, beside = geometry.padding
    if above or beside:
        gram = F.pad(gram, (beside, beside, beside, beside, above, above, above, above))
    height, width = grads.shape[2:]

    def window(offset: int, axis: int, count: int) -> slice:
        start = offset * geometry.dilation[axis]
        return slice(start, start + (count - 1) * geometry.stride[axis] + 1, geometry.stride[axis])

    vertical = [window(offset, 0, height) for offset in range(rows)]
    summed = gram[:, vertical[0], vertical[0]].clone()
    for part in vertical[1:]:
        summed += gram[:, part, part]
    horizontal = [window(offset, 1, width) for offset in range(columns)]
    patches = summed[..., horizontal[0], horizontal[0]].clone()
    for part in horizontal[1:]:
        patches += summed[..., part, part]
    patches *= _pixel_gram(grads)
    own = patches.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2)  # (records, height, width)
    reach = own.clamp(min=0).sqrt().sum((1, 2))
    return patches.sum((1, 2, 3, 4)) + rounding(reach)


def _pixel_gram(images: Tensor) -> Tensor:
    """Inner products over channels of all pairs of pixels: (records, row, row', column, column')."""
    records, _, height, width = images.shape
    pixels = images.flatten(2)
    gram = torch.bmm(pixels.transpose(1, 2), pixels)
    return gram.view(records, height, width, height, width).permute(0, 1, 3, 2, 4)
