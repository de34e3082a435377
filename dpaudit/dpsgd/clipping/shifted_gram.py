"""Ghost norms of a plain convolution from Gram matrices of pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.convolution_products import Geometry
from dpaudit.dpsgd.clipping.linear import rounding
from dpaudit.dpsgd.clipping.processor import each_thread, suits_kernels
from dpaudit.dpsgd.clipping.products import Fastest, multiplied_each

# Pixel Gram matrices worked on at once: they should stay in the last cache of a processor.
_GRAM_BYTES = 2**23


def shifted_gram_norms(
    images: Tensor, grads: Tensor, kernel: torch.Size, geometry: Geometry, fastest: Fastest
) -> Tensor:
    """Squared norms, (records,), few records at a time.

    Args:
      images: (records, channels, H, W).
      grads: (records, channels, h, w), of the outputs.
      kernel: its height and width.
      geometry: not transposed, without groups.
      fastest: multiplies.
    """
    chunk = max(1, _GRAM_BYTES // (math.prod(images.shape[2:]) ** 2 * images.element_size()))
    as_wide = images.shape[3] == grads.shape[3] and geometry.stride == (1, 1)
    norms_of = _by_kernel if as_wide and suits_kernels(images, grads) else _by_windows
    pairs = zip(torch.split(images, chunk), torch.split(grads, chunk), strict=True)
    return torch.cat([norms_of(*pair, kernel, geometry, fastest) for pair in pairs]).clamp_(min=0)


def _by_kernel(
    images: Tensor, grads: Tensor, kernel: torch.Size, geometry: Geometry, fastest: Fastest
) -> Tensor:
    from dpaudit.dpsgd.clipping.shift_kernels import shifted_norms

    norms = images.new_empty(len(images))
    split = (*(_pixel_gram(side, fastest) for side in (images, grads)), norms)
    shape = ((*images.shape[2:], grads.shape[2]), kernel, geometry.padding, geometry.dilation)
    each_thread(shifted_norms, len(images), split, [torch.tensor(one) for one in shape])
    return norms


def _by_windows(
    images: Tensor, grads: Tensor, kernel: torch.Size, geometry: Geometry, fastest: Fastest
) -> Tensor:
    gram = _spread(_pixel_gram(images, fastest), images)
    above, beside = geometry.padding
    if above or beside:
        gram = F.pad(gram, (beside, beside, beside, beside, above, above, above, above))
    (rows, columns), (height, width) = kernel, grads.shape[2:]

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
    patches *= _spread(_pixel_gram(grads, fastest), grads)
    own = patches.diagonal(dim1=1, dim2=2).diagonal(dim1=1, dim2=2)  # (records, height, width)
    reach = own.clamp(min=0).sqrt().sum((1, 2))
    return patches.sum((1, 2, 3, 4)) + rounding(reach)


def _pixel_gram(images: Tensor, fastest: Fastest) -> Tensor:
    """Inner products over channels of all pairs of pixels, (records, pixels, pixels)."""
    pixels = images.flatten(2)
    return multiplied_each(fastest, "Gram", pixels.transpose(1, 2), pixels)


def _spread(gram: Tensor, images: Tensor) -> Tensor:
    """(records, pixels, pixels) to (records, row, row', column, column')."""
    height, width = images.shape[2:]
    return gram.view(len(gram), height, width, height, width).permute(0, 1, 3, 2, 4)
