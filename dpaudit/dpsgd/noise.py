"""Gaussian noise, once for each logical batch.

Samples are float32 (float64 for float64 sums) whatever the precision of the model. Two caveats of any noise
made from floating-point numbers remain: a sample is one of finitely many values, so the distribution has
holes that an adversary with the exact released bits could exploit (arXiv:2207.13793; Mironov 2012 for the
Laplace case), and the largest sample is bounded (about 8.6 standard deviations from 53 random bits, less
from 24), which adds below 1e-16 to delta for each coordinate. The secure source removes the third weakness,
that of a predictable generator.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.books import working_dtype

# Fits a second-level cache in float32, so that adding a chunk costs no trip to memory.
_CHUNK = 2**17


class NoiseSource:
    """Draw independent normal samples for named tensors.

    Args:
      generator: of the device of the tensors. On a processor it seeds, once for each call, the streams of a
        faster generator for float32. None takes a secure source: samples are made on the host from
        the operating system's cryptographic generator, which is slower and cannot be replayed.
      ahead: draw the noise of the next call in a thread while the caller does something else. It costs a
        buffer of the size of the tensors, gives the same samples, and pays where a second core is idle.
    """

    def __init__(self, generator: torch.Generator | None = None, *, ahead: bool = False) -> None:
        self.generator, self.ahead = generator, ahead
        self._thread = ThreadPoolExecutor(1, "noise") if ahead else None
        self._pending: Future[dict[str, Tensor]] | None = None
        self._state_before: Tensor | None = None

    def add(self, tensors: Mapping[str, Tensor], scale: float, factor: float = 1.0) -> None:
        """Add samples of standard deviation `scale` to each tensor, then multiply by `factor`, in place."""
        if scale == 0:
            for tensor in tensors.values():
                if factor != 1:
                    tensor.mul_(factor)
            return
        if self._thread is None:
            self._add_now(tensors, scale, factor)
            return
        drawn = self._thread.submit(self._draw, dict(tensors)) if self._pending is None else self._pending
        samples = drawn.result()
        if samples.keys() != tensors.keys():
            raise ValueError("noise was drawn ahead for other tensors")
        for name, tensor in tensors.items():
            tensor.add_(samples[name], alpha=scale).mul_(factor)
        self._pending = None

    def prepare(self, tensors: Mapping[str, Tensor]) -> None:
        """Start to draw for the next `add`, which must be for tensors of these names and shapes."""
        if self._thread is not None and self._pending is None:
            self._state_before = None if self.generator is None else self.generator.get_state()
            self._pending = self._thread.submit(self._draw, dict(tensors))

    def state(self) -> Tensor | None:
        """State of the generator as of the latest `add`; None for the secure source."""
        if self.generator is None:
            return None
        return self.generator.get_state() if self._pending is None else self._state_before

    def set_state(self, state: Tensor | None) -> None:
        """Go back to a state; what was drawn ahead is dropped.

        Raises:
          ValueError: a state for the secure source, or none for a generator.
        """
        if (state is None) != (self.generator is None):
            raise ValueError("the checkpoint's noise comes from another kind of source")
        if self._pending is not None:
            self._pending.result()
            self._pending = None
        if self.generator is not None and state is not None:
            self.generator.set_state(state)

    def _draw(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        samples = {
            name: torch.zeros(tensor.shape, dtype=working_dtype(tensor), device=tensor.device)
            for name, tensor in tensors.items()
        }
        self._add_now(samples, 1.0, 1.0)
        return samples

    def _add_now(self, tensors: Mapping[str, Tensor], scale: float, factor: float) -> None:
        lanes = None if self.generator is None else _seed_lanes(self.generator)
        for tensor in tensors.values():
            if lanes is not None and tensor.dtype == torch.float32 and tensor.device.type == "cpu":
                _add_by_kernel(tensor, scale, factor, lanes)
                continue
            for chunk in _chunks(tensor):
                chunk.add_(self._sample(chunk), alpha=scale).mul_(factor)

    def _sample(self, like: Tensor) -> Tensor:
        if self.generator is not None:
            return torch.empty_like(like).normal_(generator=self.generator)
        return secure_normal(like.numel()).to(like)


def _seed_lanes(generator: torch.Generator) -> npt.NDArray[np.uint64] | None:
    """Take the state of the kernel's streams from a generator of the processor; None for another device's."""
    if generator.device.type != "cpu":
        return None
    from dpaudit.dpsgd.normal_kernel import LANES

    low, high = -(2**63), 2**63 - 1
    return torch.randint(low, high, (4, LANES), generator=generator).numpy().view(np.uint64)


def _add_by_kernel(tensor: Tensor, scale: float, factor: float, lanes: npt.NDArray[np.uint64]) -> None:
    from dpaudit.dpsgd.normal_kernel import add_normal

    add_normal(tensor.view(-1).numpy(), np.float32(scale), np.float32(factor), lanes)


def _chunks(tensor: Tensor) -> tuple[Tensor, ...]:
    """Views of the parts of a contiguous tensor: cache-sized on a processor, the whole elsewhere."""
    flat = tensor.view(-1)
    return torch.split(flat, _CHUNK) if tensor.device.type == "cpu" else (flat,)


def secure_normal(count: int) -> Tensor:
    """Draw standard normal samples, float64 (count,), from the operating system's cryptographic generator.

    By the inverse of the normal distribution function at 53 random bits, centred within their cell, so that
    no sample is infinite.
    """
    bits = (
        torch.frombuffer(bytearray(os.urandom(8 * count)), dtype=torch.int64)
        if count
        else torch.zeros(0).long()
    )
    uniform = ((bits & (2**53 - 1)).double() + 0.5) * 2.0**-53
    # Both tails from the small side, where the doubles are dense.
    tail = torch.minimum(uniform, 1 - uniform)
    samples: Tensor = torch.special.ndtri(tail)
    return samples * torch.where(uniform < 0.5, 1.0, -1.0)
