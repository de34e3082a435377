"""The training loop of DP-SGD, to be read in one sitting."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from dpaudit.dpsgd.checkpoint import load_state, save_state
from dpaudit.dpsgd.clipping.batches import count_records
from dpaudit.dpsgd.clipping.result import ClippedGradients
from dpaudit.dpsgd.physical import physical_batches
from dpaudit.dpsgd.private_step import PrivateStep
from dpaudit.dpsgd.samplers import BatchSampler
from dpaudit.errors import DpauditError
from dpaudit.interval import EpsilonInterval
from dpaudit.scheme import SamplingScheme

#: Gives (inputs, targets) of the records with these numbers, int64 (batch,).
Fetch = Callable[[Tensor], tuple[Any, Any]]
#: Gives the epsilon spent after so many steps; it never falls as the steps grow.
Accountant = Callable[[int], EpsilonInterval]


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step, for the eyes of who may see the data: nothing of it has noise.

    Attributes:
      step: counted from 1.
      records: size of the logical batch.
      loss: mean over the records that were not refused; nan where there was none.
      clipped: share of the same records whose gradient was scaled down; nan where there was none.
      refused: records that added nothing because their gradient was not finite.
    """

    step: int
    records: int
    loss: float
    clipped: float
    refused: int


class PrivateTrainer:
    """Train by DP-SGD: draw, clip and sum, add noise, update, account.

    Args:
      private: the private update, from `make_private`.
      sampler: decides who takes part in each step.
      fetch: gives the records, or a map-style data set of (inputs, targets).
      accountant: gives the epsilon after so many steps of the sampler's scheme; None trains without
        accounting, as an audit may.
      target_epsilon: no step is taken that would bring the accountant's upper bound above it.
      physical_batch_size: most records in one forward pass; None takes whole logical batches.
      fixed_shape: fill physical batches up with masked records, so that shapes never change.
      for_audit: needed to train with a sampler whose scheme is not the one that accounting assumes (shuffle,
        fixed size, sequential); checkpoints say so.
      record: keep in `batches` which records were trained on in each step. It is as sensitive as the data.

    Raises:
      ValueError: an audit-only scheme without `for_audit`, a target without an accountant, `fixed_shape`
        without a size.
    """

    def __init__(
        self,
        private: PrivateStep,
        sampler: BatchSampler,
        fetch: Fetch | Dataset[Any],
        *,
        accountant: Accountant | None = None,
        target_epsilon: float | None = None,
        physical_batch_size: int | None = None,
        fixed_shape: bool = False,
        for_audit: bool = False,
        record: bool = False,
    ) -> None:
        if sampler.audit_only and not for_audit:
            raise ValueError(f"{sampler.scheme!r} is for audits only; pass for_audit=True to train with it")
        if target_epsilon is not None and accountant is None:
            raise ValueError("target_epsilon needs an accountant")
        if fixed_shape and physical_batch_size is None:
            raise ValueError("fixed_shape needs physical_batch_size")
        if physical_batch_size is not None and physical_batch_size < 1:
            raise ValueError(f"physical_batch_size must be at least 1, got {physical_batch_size}")
        if private.noise.generator is not None and _alike(private.noise.generator, sampler.generator):
            raise ValueError("noise and sampling need generators of their own, seeded differently")
        self.private, self.sampler = private, sampler
        self.accountant = None if accountant is None else _of_scheme(accountant, sampler.scheme)
        self.fetch: Fetch = fetch_from(fetch) if isinstance(fetch, Dataset) else fetch
        self.target_epsilon, self.for_audit = target_epsilon, for_audit
        self.physical_batch_size, self.fixed_shape = physical_batch_size, fixed_shape
        self.batches: list[Tensor] | None = [] if record else None
        self.steps = 0
        self._affordable = 0  # steps, from the first one, that are known to stay within the target

    @property
    def spent(self) -> EpsilonInterval | None:
        """The epsilon of the steps so far; None without an accountant or before the first step."""
        return None if self.accountant is None or self.steps == 0 else self.accountant(self.steps)

    def step(self) -> StepReport:
        """Train on one logical batch.

        Raises:
          DpauditError: the step would exceed the target epsilon.
        """
        if not self.affordable(1):
            raise DpauditError(
                f"step {self.steps + 1} would exceed the target epsilon {self.target_epsilon:g}",
                "Train for fewer steps, with more noise, or raise the target.",
            )
        records = self.sampler.draw()
        try:
            totals, delivered = self._accumulate(records)
        except BaseException:  # a later step must not add another batch to half of this one
            self.private.discard()
            raise
        self.steps += 1  # before the update: an interrupt in between counts too much, never too little
        self.private.step()
        if self.batches is not None:
            self.batches.append(delivered)
        counted, loss, clipped, refused = totals.tolist()
        mean, share = (loss / counted, clipped / counted) if counted else (math.nan, math.nan)
        return StepReport(self.steps, len(records), mean, share, int(refused))

    def _accumulate(self, records: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the clipped gradients of a logical batch; give its totals and who was trained on."""
        totals, delivered = torch.zeros(4), [records[:0]]
        for part, mask in physical_batches(records, self.physical_batch_size, fixed_shape=self.fixed_shape):
            inputs, targets = self.fetch(part)
            if (given := count_records(inputs)) != len(part):
                raise ValueError(f"fetch gave {given} inputs for {len(part)} records; each record has one")
            found = self.private.accumulate(inputs, targets, mask)
            totals = totals.to(found.losses.device) + _totals(found)
            delivered.append(part if mask is None else part[mask])
        return totals, torch.cat(delivered)

    def run(self, steps: int) -> Iterator[StepReport]:
        """Take up to `steps` more steps; stops before the target epsilon would be exceeded."""
        for _ in range(self.affordable(steps)):
            yield self.step()

    def affordable(self, steps: int) -> int:
        """Count how many of the next `steps` steps, from the first on, stay within the target epsilon."""
        accountant, target, start = self.accountant, self.target_epsilon, self.steps
        if accountant is None or target is None or start + steps <= self._affordable:
            return steps
        if accountant(start + steps).upper <= target:  # epsilon rises with the steps: so do all before it
            found = steps
        else:
            found = bisect_right(range(1, steps), target, key=lambda more: accountant(start + more).upper)
        self._affordable = start + found
        return found

    def state(self) -> dict[str, Any]:
        """Everything that the steps to come depend on, in tensors and plain values; keep it secret.

        It holds the generators of the noise and of the batches: who has it can take the noise off again.
        """
        spent = self.spent
        return {
            "format": 2,
            "steps": self.steps,
            "for_audit": self.for_audit,
            "epsilon": None if spent is None else (spent.lower, spent.upper, spent.delta),
            "private": self.private.state(),
            "sampler": self.sampler.state(),
            "batches": self.batches,
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
          ValueError: the state is of another mechanism, scheme or data set, was made for an audit only, or
            lacks the batches that this trainer records.
        """
        if state["format"] != 2:
            raise ValueError(f"unknown checkpoint format {state['format']!r}")
        if state["for_audit"] != self.for_audit:
            raise ValueError("the checkpoint and this trainer differ in for_audit")
        if self.batches is not None and state["batches"] is None:
            raise ValueError("the checkpoint has no record of its batches; record from the first step on")
        self.sampler.set_state(state["sampler"])
        self.private.set_state(state["private"])
        self.batches = None if self.batches is None else list(state["batches"])
        self.steps = state["steps"]
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state; whatever happens then, the file at `path` is whole: the old one or the new."""
        save_state(self.state(), path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file; only tensors and plain values are read, never code."""
        self.set_state(load_state(path))


def fetch_from(records: Dataset[Any]) -> Fetch:
    """Make a fetch function from a map-style data set of (inputs, targets)."""

    def fetch(numbers: Tensor) -> tuple[Any, Any]:
        inputs, targets = default_collate([records[number] for number in numbers.tolist()])
        return inputs, targets

    return fetch


def _of_scheme(accountant: Accountant, scheme: SamplingScheme) -> Accountant:
    """Refuse an accountant of another scheme than the one that runs, as far as its answers name one."""

    def account(steps: int) -> EpsilonInterval:
        found = accountant(steps)
        if found.scheme not in (None, scheme):
            raise ValueError(f"the accountant is of {found.scheme!r}, but the sampler draws by {scheme!r}")
        return found

    return account


def _alike(one: torch.Generator, other: torch.Generator) -> bool:
    """Whether two generators would give the same stream."""
    return one.device == other.device and torch.equal(one.get_state(), other.get_state())


def _totals(found: ClippedGradients) -> Tensor:
    """Count records, losses, clipped and refused ones, (4,); what is masked or refused has factor zero."""
    counted = (found.factors > 0).any(0)
    losses = torch.where(counted, found.losses, 0).sum()
    clipped = ((found.factors < 1).any(0) & counted).sum()
    return torch.stack([counted.sum().to(losses), losses, clipped.to(losses), found.refused.sum().to(losses)])
