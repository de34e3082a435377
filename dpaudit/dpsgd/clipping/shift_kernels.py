"""Ghost norms of a convolution from Gram matrices of pixels, on a processor: no shifted copies are made."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from dpaudit.dpsgd.clipping.gram_kernels import ROUNDING

# Sums may be reordered, as in any matrix product; nan and inf stay what they are.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator]
def shifted_norms(
    pixels: Any, outputs: Any, norms: Any, sizes: Any, kernel: Any, padding: Any, dilation: Any
) -> None:
    """Set norms[r] to the squared norm of a record's weight gradient, no smaller for being rounded.

    For stride 1 and outputs as wide as the image: then output t sees pixel t + shift at each position of the
    kernel, and whole rows of the matrices are multiplied. Only where that pixel is in the next line, and the
    output really sees padding, a factor of zero is needed.

    Args:
      pixels: (batch, H W, H W), inner products of the pixels of an image.
      outputs: (batch, h W, h W), of the gradients of the output's positions.
      norms: (batch,), changed in place.
      sizes: H, W, h.
      kernel: its height and width.
      padding: above and to the left.
      dilation: down and to the right.
    """
    height, width, rows = sizes
    inside = np.empty((kernel[1], rows * width), pixels.dtype)
    for across in range(kernel[1]):
        for one in range(rows * width):
            inside[across, one] = 0 <= one % width + across * dilation[1] - padding[1] < width
    own = np.empty(rows * width)
    for record in range(len(norms)):
        total = 0.0
        own[:] = 0
        for place in range(kernel[0] * kernel[1]):
            top, across = place // kernel[1] * dilation[0] - padding[0], place % kernel[1]
            shift = top * width + across * dilation[1] - padding[1]
            begin, end = max(0, -top) * width, min(rows, height - top) * width
            end = min(end, height * width - shift)
            counts = inside[across]
            for one in range(begin, end):
                if not counts[one]:
                    continue
                seen, entered = pixels[record, one + shift], outputs[record, one]
                square = seen[one + shift] * entered[one]
                beyond = pixels.dtype.type(0)
                after, factors = entered[one + 1 : end], counts[one + 1 : end]
                seen_after = seen[one + 1 + shift : end + shift]
                for other in range(len(after)):
                    beyond += after[other] * seen_after[other] * factors[other]
                own[one] += square
                total += square + 2 * beyond
        reach = 0.0
        for one in range(rows * width):
            reach += np.sqrt(max(own[one], 0))
        norms[record] = total + ROUNDING * np.finfo(pixels.dtype).eps * reach * reach
