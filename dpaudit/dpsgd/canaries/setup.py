"""CanarySetup: a training set, a model and a recorder, with canaries in all three."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dpaudit.dpsgd.canaries.attached import CANARY_CLASS, AttachedModel
from dpaudit.dpsgd.canaries.data import LabelledData, load_data
from dpaudit.dpsgd.canaries.layout import CanaryLayout, lay_out
from dpaudit.dpsgd.canaries.models import build_model
from dpaudit.dpsgd.canaries.records import InputCanaries, make_input_canaries
from dpaudit.dpsgd.canaries.run_plan import RunPlan
from dpaudit.dpsgd.canaries.sites import find_sites, out_of_reach


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CanarySetup:
    """What one run trains on, and where its canaries are."""

    rows: Tensor
    """Features of every record, flat, then its number; ordinary records first, shape (N, d + 1)."""
    targets: Tensor
    """Classes, int64 (N,)."""
    real: int
    """Number of ordinary records, input canaries among them."""
    expected_batch_size: float
    layout: CanaryLayout
    inputs: InputCanaries
    shape: tuple[int, ...]
    """Of one record's features, as the model takes them."""
    classes: int

    @property
    def num_records(self) -> int:
        """N, included canaries counted."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """Independent seeds of one run."""

    design: np.random.Generator
    sampler: torch.Generator
    noise: torch.Generator
    model: int

    @classmethod
    def of(cls, seed: int, run: int) -> Streams:
        """Derive them; any two runs or purposes share nothing."""
        parts = np.random.SeedSequence([seed, run]).spawn(4)
        numbers = [int(part.generate_state(1, np.uint64)[0] >> 1) for part in parts]
        return cls(
            np.random.default_rng(parts[0]),
            torch.Generator().manual_seed(numbers[1]),
            torch.Generator().manual_seed(numbers[2]),
            numbers[3],
        )


def set_up(
    plan: RunPlan, streams: Streams, *, build: Callable[[], nn.Module] | None = None
) -> tuple[CanarySetup, nn.Module]:
    """Lay out the canaries of one run, and make its model.

    Returns:
      The setup, and the model before anything is attached to it.

    Raises:
      DpauditError: the data or the model cannot be had.
    """
    data = load_data(plan.data)
    ordinary, inputs = make_input_canaries(data, plan.inputs, plan.input_kinds, streams.design)
    model, shape = build_model(
        plan.model, data.features.shape[1:], data.classes, seed=streams.model, build=build
    )
    open_to_canaries = bool(plan.per_tensor)
    layout = lay_out(
        find_sites(model) if open_to_canaries else (),
        registers=plan.registers,
        per_tensor=plan.per_tensor,
        rng=streams.design,
        watched=out_of_reach(model) if open_to_canaries else None,
    )
    rows, targets = _rows(ordinary, inputs, int(layout.included.sum()))
    setup = CanarySetup(
        rows=rows,
        targets=targets,
        real=len(rows) - int(layout.included.sum()),
        expected_batch_size=plan.rate * len(ordinary.labels),
        layout=layout,
        inputs=inputs,
        shape=shape,
        classes=data.classes,
    )
    return setup, model


def attach(setup: CanarySetup, model: nn.Module, *, silent: bool) -> AttachedModel:
    """Plug the canaries of a setup into a model."""
    return AttachedModel(
        model, setup.layout, find_sites(model), shape=setup.shape, real=setup.real, silent=silent
    )


def _rows(data: LabelledData, inputs: InputCanaries, canaries: int) -> tuple[Tensor, Tensor]:
    kept = inputs.included
    features = np.concatenate((data.features, inputs.features[kept])).reshape(
        len(data.labels) + kept.sum(), -1
    )
    features = np.concatenate((features, np.zeros((canaries, features.shape[1]), np.float32)))
    labels = np.concatenate((data.labels, inputs.labels[kept], np.full(canaries, CANARY_CLASS)))
    numbers = np.arange(len(labels), dtype=np.float32)
    return torch.from_numpy(np.column_stack((features, numbers))), torch.from_numpy(labels)


def input_losses(setup: CanarySetup, model: nn.Module) -> npt.NDArray[np.float64]:
    """Compute the cross entropy of each input canary under the bare model, shape (candidates,)."""
    if not len(setup.inputs.labels):
        return np.zeros(0)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        scores = model(torch.from_numpy(setup.inputs.features).reshape(-1, *setup.shape))
        losses = nn.functional.cross_entropy(scores, torch.from_numpy(setup.inputs.labels), reduction="none")
    model.train(was_training)
    return np.asarray(losses.double().numpy())
