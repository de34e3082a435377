"""Faults of a private trainer, to be switched on: an audit is worth what it catches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from dpaudit.dpsgd.noise import NoiseSource

Fault = Literal[
    "half_noise", "noise_over_batch", "noise_times_batch", "layer_without_noise", "same_noise", "no_clipping",
    "double_clip",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = get_args(Fault)

# Far above any gradient norm here, and small enough for its square to be finite in single precision.
_NO_CLIP = 1e9


class FaultyNoise(NoiseSource):
    """Noise with one thing wrong.

    Args:
      generator: as for `NoiseSource`.
      fault: what is wrong; one that is not about noise changes nothing.
      batch_size: expected, for noise that was calibrated to the wrong sum.
      silent: names of the tensors that get no noise.
    """

    def __init__(
        self,
        generator: torch.Generator,
        fault: Fault | None,
        *,
        batch_size: float,
        silent: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(generator)
        self.silent = silent
        factors = {"half_noise": 0.5, "noise_over_batch": 1 / batch_size, "noise_times_batch": batch_size}
        self._factor = factors.get(fault or "", 1.0)
        self._again = generator.get_state() if fault == "same_noise" else None

    def add(self, tensors: Mapping[str, Tensor], scale: float, factor: float = 1.0) -> None:
        """Add noise, wrongly."""
        if self._again is not None and self.generator is not None:
            self.generator.set_state(self._again)
        loud = {name: tensor for name, tensor in tensors.items() if name not in self.silent}
        super().add(loud, scale * self._factor, factor)
        for name in self.silent & set(tensors):
            tensors[name].mul_(factor)


def applied_clip_norm(clip_norm: float, fault: Fault | None) -> float:
    """Give the clip norm that is really applied."""
    return {"no_clipping": _NO_CLIP * clip_norm, "double_clip": 2 * clip_norm}.get(fault or "", clip_norm)
