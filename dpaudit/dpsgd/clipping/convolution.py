"""Convolutions of one to three dimensions, transposed or not, as per-record weight gradients.

A transposed convolution's weight gradient is that of the convolution it transposes, with input and output
gradient exchanged, so one set of formulas serves both.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.books import zero_records
from dpaudit.dpsgd.clipping.convolution_products import (
    Geometry,
    gradient_by_offsets,
    is_mostly_padding,
    weight_gradient,
)
from dpaudit.dpsgd.clipping.linear import gram_squared_norms
from dpaudit.dpsgd.clipping.processor import recording
from dpaudit.dpsgd.clipping.products import Fastest, first_way, multiplied_each
from dpaudit.dpsgd.clipping.shifted_gram import shifted_gram_norms

# Patches that are instantiated from: they should stay in the last cache of a processor, and fill a device.
_PATCH_BYTES = {"cpu": 2**22, "cuda": 2**28}


class ConvolutionBook:
    """Inputs (batch, images, channels, *space) and output gradients of one convolution weight."""

    __slots__ = ("fastest", "geometry", "grads", "inputs", "weight_shape")

    def __init__(
        self,
        inputs: Tensor,
        grads: Tensor,
        geometry: Geometry,
        weight_shape: torch.Size,
        fastest: Fastest = first_way,
    ) -> None:
        self.inputs, self.grads = inputs, grads
        self.geometry, self.weight_shape = geometry, weight_shape
        self.fastest = fastest

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
        task = (inputs.flatten(0, 1), grads.flatten(0, 1), self.geometry, self.weight_shape)
        ways = {"convolution": lambda: weight_gradient(*task)}
        if not (inputs.is_cuda or recording()) and is_mostly_padding(*task):
            ways["offsets"] = lambda: gradient_by_offsets(*task, self.fastest)
        key = ("weight gradient", len(task[0]).bit_length(), *inputs.shape[2:], *self.geometry.stride)
        return self.fastest((*key, *self.weight_shape), ways)

    def take(self, records: slice) -> ConvolutionBook:
        """Keep some records."""
        return self._with(self.inputs[records], self.grads[records])

    @property
    def size(self) -> int:
        """Numbers held."""
        return self.inputs.numel() + self.grads.numel()

    def without(self, bad: Tensor) -> ConvolutionBook:
        """Zero some records on both sides."""
        return self._with(zero_records(self.inputs, bad), zero_records(self.grads, bad))

    def _with(self, inputs: Tensor, grads: Tensor) -> ConvolutionBook:
        return ConvolutionBook(inputs, grads, self.geometry, self.weight_shape, self.fastest)

    def per_record_by_groups(self) -> Tensor:
        """Instantiate by one convolution whose groups are the records; one image for each record."""
        batch = len(self.inputs)
        inputs, grads = self.inputs.flatten(0, 2).unsqueeze(0), self.grads.flatten(0, 2).unsqueeze(0)
        shape = torch.Size((batch * self.weight_shape[0], *self.weight_shape[1:]))
        geometry = replace(self.geometry, groups=batch * self.geometry.groups)
        return weight_gradient(inputs, grads, geometry, shape).view(batch, *self.weight_shape)

    def per_record_by_patches(self) -> Tensor:
        """Instantiate by products of patches and output gradients, few records at a time."""
        groups = self.geometry.groups
        gradients = self.inputs.new_empty(len(self.inputs), *self.weight_shape)
        products = gradients.view(len(gradients) * groups, -1, math.prod(self.weight_shape[1:]))
        chunk = self._records_within(_PATCH_BYTES["cuda" if self.inputs.is_cuda else "cpu"])
        for start in range(0, len(gradients), chunk):
            patches, grads = self.take(slice(start, start + chunk))._patches_and_grads()
            place = products[start * groups : (start + chunk) * groups]
            multiplied_each(self.fastest, "patches", grads, patches.transpose(1, 2), out=place)
        return gradients

    def gram_of_patches(self, budget: int = 2**26) -> Tensor:
        """Ghost norms from unfolded patches, records in chunks of at most `budget` bytes of patches."""
        chunk = self._records_within(budget)
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
        inputs, grads = self.inputs[:, 0], self.grads[:, 0]
        return shifted_gram_norms(inputs, grads, self.weight_shape[2:], self.geometry, self.fastest)

    def _records_within(self, budget: int) -> int:
        """Records whose patches take at most `budget` bytes, one at least."""
        features = math.prod(self.weight_shape[1:]) * self.geometry.groups
        return max(1, budget // (self.positions * features * self.inputs.element_size()))

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


def _unfold(images: Tensor, kernel: torch.Size, geometry: Geometry, positions: torch.Size) -> Tensor:
    """Patches: (images, channels, kernel elements, T)."""
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
