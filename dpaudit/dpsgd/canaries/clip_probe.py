"""A clip probe without noise: what one record can add to the sum, over nine decades of gradient norm."""

from __future__ import annotations

import math

import torch

from dpaudit.dpsgd.canaries.attached import AttachedModel
from dpaudit.dpsgd.canaries.setup import CanarySetup
from dpaudit.dpsgd.clipping.engine import ClippingEngine

# A gradient below the clip norm passes unclipped and proves nothing; one far above it shows the clip, and
# one that is not finite must add nothing.
_SCALES = (1e-3, 1e-2, 0.1, 0.5, 0.9, 1.0, 1.1, 2.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, math.inf, math.nan)


def largest_contribution(
    engine: ClippingEngine, setup: CanarySetup, model: AttachedModel, clip_norm: float
) -> float:
    """Measure the largest Euclidean norm that one canary adds to a sum without noise.

    Every included canary is tried alone among others of its kind, at norms from a thousandth of the clip
    norm to a million of it, and with gradients that are infinite or not a number. The engine is the one under
    audit; the model is left as it was.

    Returns:
      In claimed clip norms; infinity where a gradient that is not finite got into the sum; nan where no
      canary is included.
    """
    numbers = torch.arange(setup.real, setup.num_records)
    if not len(numbers):
        return math.nan
    own = model._scale.clone()
    largest = 0.0
    try:
        for scale in _SCALES:
            model._scale.fill_(scale)
            largest = max(largest, _contribution(engine, setup, numbers) / clip_norm)
    finally:
        model._scale.copy_(own)
    return largest


def _contribution(engine: ClippingEngine, setup: CanarySetup, numbers: torch.Tensor) -> float:
    """Give the largest coordinate of the sum: canaries share none, so that is the largest of one."""
    sums = engine(setup.rows[numbers], setup.targets[numbers]).sums
    largest = max(float(total.abs().max()) for total in sums.values())
    return largest if math.isfinite(largest) else math.inf
