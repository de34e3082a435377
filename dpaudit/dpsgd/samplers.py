"""Draw logical batches by a sampling scheme, exactly: empty ones stay empty, nothing is dropped or filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from dpaudit.dpsgd.generators import secret_generator
from dpaudit.scheme import (
    BallsInBins,
    FixedSize,
    Poisson,
    SamplingScheme,
    Sequential,
    Shuffle,
    TruncatedPoisson,
    scheme_from_json,
    scheme_to_json,
)

#: Schemes whose usual accounting does not hold; a trainer takes them only when told that it is for an audit.
AUDIT_ONLY = (FixedSize, Shuffle, Sequential)


class BatchSampler:
    """Draw one batch of record numbers after the other.

    Args:
      scheme: Poisson, TruncatedPoisson, BallsInBins, and for audits FixedSize, Shuffle, Sequential.
      num_records: number of records, at least one.
      generator: on the CPU; it decides who takes part, so it must be secret. None takes a secret one.

    Raises:
      ValueError: a scheme that cannot be drawn here.
    """

    def __init__(
        self, scheme: SamplingScheme, num_records: int, generator: torch.Generator | None = None
    ) -> None:
        if num_records < 1:
            raise ValueError(f"num_records must be at least 1, got {num_records}")
        self.scheme, self.num_records = scheme, num_records
        self.generator = secret_generator() if generator is None else generator
        if type(scheme) not in _DRAWS:
            known = ", ".join(kind.__name__ for kind in _DRAWS)
            raise ValueError(f"no sampler for {scheme!r}; known: {known}")
        self.steps = 0
        self._epoch: Iterator[Tensor] = iter(())
        self._epoch_state, self._epoch_step = self.generator.get_state(), 0
        self._fixed: Tensor | None = None

    @property
    def audit_only(self) -> bool:
        """Whether the scheme is here to be audited, not to train privately."""
        return isinstance(self.scheme, AUDIT_ONLY)

    def draw(self) -> Tensor:
        """Give the next batch: int64 (batch,), empty where nobody was drawn."""
        batch = next(self._epoch, None)
        if batch is None:
            self._epoch_state, self._epoch_step = self.generator.get_state(), 0
            self._epoch = self._start_epoch()
            batch = next(self._epoch)
        self.steps += 1
        self._epoch_step += 1
        return batch

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield self.draw()

    def state(self) -> dict[str, Any]:
        """Everything that the batches to come depend on."""
        return {
            "scheme": scheme_to_json(self.scheme),
            "num_records": self.num_records,
            "steps": self.steps,
            "epoch_state": self._epoch_state,
            "epoch_step": self._epoch_step,
            "fixed": self._fixed,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
          ValueError: the state is of another scheme or number of records.
        """
        scheme = scheme_from_json(state["scheme"])
        if scheme != self.scheme or state["num_records"] != self.num_records:
            raise ValueError(f"the checkpoint is of {scheme!r} on {state['num_records']} records")
        self.generator.set_state(state["epoch_state"])
        self._epoch_state, self._fixed = state["epoch_state"], state["fixed"]
        self._epoch = self._start_epoch() if state["epoch_step"] else iter(())
        for _ in range(state["epoch_step"]):
            next(self._epoch)
        self.steps, self._epoch_step = state["steps"], state["epoch_step"]

    def permutation(self, *, fresh: bool) -> Tensor:
        """Give a uniform permutation of the records, or the one of the first epoch again."""
        if fresh or self._fixed is None:
            self._fixed = torch.randperm(self.num_records, generator=self.generator)
        return self._fixed

    def bins(self, count: int, *, fresh: bool) -> Tensor:
        """Give every record's bin, or that of the first epoch again."""
        if fresh or self._fixed is None:
            self._fixed = torch.randint(count, (self.num_records,), generator=self.generator)
        return self._fixed

    def _start_epoch(self) -> Iterator[Tensor]:
        return _DRAWS[type(self.scheme)](self, self.scheme)


def poisson_batch(rate: float, num_records: int, generator: torch.Generator) -> Tensor:
    """Draw every record independently: double precision, so the rate is exact to 2^-53."""
    return (torch.rand(num_records, dtype=torch.float64, generator=generator) < rate).nonzero().flatten()


def _poisson(sampler: BatchSampler, scheme: Poisson) -> Iterator[Tensor]:
    yield poisson_batch(scheme.rate, sampler.num_records, sampler.generator)


def _truncated_poisson(sampler: BatchSampler, scheme: TruncatedPoisson) -> Iterator[Tensor]:
    batch = poisson_batch(scheme.rate, sampler.num_records, sampler.generator)
    if len(batch) > scheme.max_batch_size:
        kept = torch.randperm(len(batch), generator=sampler.generator)[: scheme.max_batch_size]
        batch = batch[kept].sort().values
    yield batch


def _balls_in_bins(sampler: BatchSampler, scheme: BallsInBins) -> Iterator[Tensor]:
    bins = sampler.bins(scheme.bins, fresh=scheme.fresh_each_epoch)
    for bin_number in range(scheme.bins):
        yield (bins == bin_number).nonzero().flatten()


def _fixed_size(sampler: BatchSampler, scheme: FixedSize) -> Iterator[Tensor]:
    records, size = sampler.num_records, scheme.batch_size
    if scheme.replacement:
        yield torch.randint(records, (size,), generator=sampler.generator)
        return
    if size > records:
        raise ValueError(f"cannot draw {size} of {records} records without replacement")
    yield torch.randperm(records, generator=sampler.generator)[:size]


def _shuffle(sampler: BatchSampler, scheme: Shuffle) -> Iterator[Tensor]:
    order = sampler.permutation(fresh=scheme.reshuffled_each_epoch)
    yield from _cut(order, scheme.batch_size, drop_last=scheme.drop_last)


def _sequential(sampler: BatchSampler, scheme: Sequential) -> Iterator[Tensor]:
    yield from _cut(torch.arange(sampler.num_records), scheme.batch_size, drop_last=False)


def _cut(order: Tensor, size: int, *, drop_last: bool) -> Iterator[Tensor]:
    batches = torch.split(order, size)
    if drop_last and len(batches[-1]) < size:
        batches = batches[:-1]
    if not batches:
        raise ValueError(f"an epoch of {len(order)} records has no whole batch of {size}")
    yield from batches


_DRAWS: dict[type, Callable[[BatchSampler, Any], Iterator[Tensor]]] = {
    Poisson: _poisson, TruncatedPoisson: _truncated_poisson, BallsInBins: _balls_in_bins,
    FixedSize: _fixed_size, Shuffle: _shuffle, Sequential: _sequential,
}  # fmt: skip
