"""Backward passes of layer and group norm that give scale and shift gradients of each record.

One pass over the data, on a processor: the library's fused backward passes sum over the batch.
"""

from __future__ import annotations

from typing import Any

from numba import njit

# Sums may be reordered; nan and inf stay what they are.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator]
def layer_norm_backward(
    grad: Any, data: Any, mean: Any, scale: Any, back: Any, weights: Any, biases: Any, weight: Any
) -> None:
    """Go back through layer norm.

    Args:
      grad: (rows, features) of the output.
      data: (rows, features), the input; the rows of a record are consecutive.
      mean: (rows,).
      scale: (rows,), inverse standard deviations.
      back: (rows, features), set to the gradient of the input.
      weights: (batch, features), to which the gradients of the weight are added.
      biases: likewise of the bias.
      weight: (features,).
    """
    rows, width = data.shape
    each = rows // len(weights)
    for row in range(rows):
        g, x, out = grad[row], data[row], back[row]
        own_weights, own_biases = weights[row // each], biases[row // each]
        centre, spread = mean[row], scale[row]
        total = cross = data.dtype.type(0)
        for k in range(width):
            normal = (x[k] - centre) * spread
            total += g[k] * weight[k]
            cross += g[k] * weight[k] * normal
            own_weights[k] += g[k] * normal
            own_biases[k] += g[k]
        total /= width
        cross /= width
        for k in range(width):
            out[k] = spread * (g[k] * weight[k] - total - (x[k] - centre) * spread * cross)


@njit(cache=True, nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator]
def group_norm_backward(
    grad: Any, data: Any, mean: Any, scale: Any, back: Any, weights: Any, biases: Any, weight: Any
) -> None:
    """Go back through group norm.

    Args:
      grad: (images, channels, area) of the output.
      data: (images, channels, area), the input; the images of a record are consecutive.
      mean: (images, groups).
      scale: (images, groups), inverse standard deviations.
      back: (images, channels, area), set to the gradient of the input.
      weights: (batch, channels), to which the gradients of the weight are added.
      biases: likewise of the bias.
      weight: (channels,).
    """
    images, channels, area = data.shape
    each, width = images // len(weights), channels // mean.shape[1]
    for image in range(images):
        record = image // each
        for group in range(mean.shape[1]):
            centre, spread = mean[image, group], scale[image, group]
            total = cross = data.dtype.type(0)
            for channel in range(group * width, (group + 1) * width):
                g, x = grad[image, channel], data[image, channel]
                shift = product = data.dtype.type(0)
                for k in range(area):
                    shift += g[k]
                    product += g[k] * (x[k] - centre)
                product *= spread
                biases[record, channel] += shift
                weights[record, channel] += product
                total += shift * weight[channel]
                cross += product * weight[channel]
            total /= width * area
            cross *= spread / (width * area)
            for channel in range(group * width, (group + 1) * width):
                g, x, out = grad[image, channel], data[image, channel], back[image, channel]
                for k in range(area):
                    out[k] = spread * (g[k] * weight[channel] - total - (x[k] - centre) * cross)
