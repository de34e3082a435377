"""One run of the reference DP-SGD with canaries in it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dpaudit.dpsgd.canaries.attached import AttachedModel
from dpaudit.dpsgd.canaries.clip_probe import largest_contribution
from dpaudit.dpsgd.canaries.faults import FaultyNoise, applied_clip_norm
from dpaudit.dpsgd.canaries.layout import MODEL
from dpaudit.dpsgd.canaries.recorded_run import RecordedRun
from dpaudit.dpsgd.canaries.recorder import Recorder
from dpaudit.dpsgd.canaries.run_plan import RunPlan
from dpaudit.dpsgd.canaries.setup import CanarySetup, Streams, attach, input_losses, set_up
from dpaudit.dpsgd.clipping.engine import ClippingEngine
from dpaudit.dpsgd.private_step import PrivateStep
from dpaudit.dpsgd.samplers import BatchSampler
from dpaudit.dpsgd.trainer import PrivateTrainer
from dpaudit.scheme import FixedSize, SamplingScheme, Sequential, Shuffle, scheme_from_json

_BY_SIZE = (Shuffle.name, Sequential.name, FixedSize.name)


def train_reference(
    plan: RunPlan,
    run: int,
    *,
    build: Callable[[], nn.Module] | None = None,
    progress: Callable[[int], None] | None = None,
) -> RecordedRun:
    """Train once by the reference DP-SGD, and record every release.

    Ordinary records share coordinates with the canaries; their clipped sums are computed a second time, by
    another clipping mode, and taken off what was released.

    Args:
      plan: of the audit.
      run: number of the run, from 0.
      build: the user's own model; None takes the plan's.
      progress: called with the number of steps done.

    Raises:
      DpauditError: the data or the model cannot be had, or training diverged.
    """
    start = time.perf_counter()
    streams = Streams.of(plan.seed, run)
    setup, bare = set_up(plan, streams, build=build)
    model = attach(setup, bare, silent=plan.records == "silent")
    before = input_losses(setup, bare)
    private = _private(plan, setup, model, streams)
    recorder = Recorder(
        model=model,
        layout=setup.layout,
        clip_norm=plan.clip_norm,
        divisor=setup.expected_batch_size,
        real=setup.real,
        source=plan.read,
        known=None if plan.records == "silent" or not plan.per_tensor else _shadow(plan, setup, model),
    )
    recorder.watch(private.optimizer)
    clipped_most = largest_contribution(private.engine, setup, model, plan.clip_norm)

    def fetch(numbers: Tensor) -> tuple[Tensor, Tensor]:
        recorder.saw(numbers)
        return setup.rows[numbers], setup.targets[numbers]

    sampler = BatchSampler(_scheme(plan, setup.num_records), setup.num_records, streams.sampler)
    trainer = PrivateTrainer(private, sampler, fetch, for_audit=True)
    for step in trainer.run(plan.steps):
        if progress is not None:
            progress(step.step)
    return recorded(
        recorder,
        setup,
        bare,
        fallen=before - input_losses(setup, bare),
        clipped_most=clipped_most,
        seconds=time.perf_counter() - start,
    )


def recorded(
    recorder: Recorder,
    setup: CanarySetup,
    model: nn.Module,
    *,
    fallen: npt.NDArray[np.float64],
    clipped_most: float = math.nan,
    seconds: float,
) -> RecordedRun:
    """Put what a recorder saw into one record."""
    layout = setup.layout
    sizes = [len(batch) for batch in recorder.batches]
    watched = set(layout.tensors)
    trained = [name for name, parameter in recorder.model.tensors if parameter.requires_grad]
    return RecordedRun(
        value=np.array(recorder.values, np.float32).reshape(-1, layout.canaries),
        participated=recorder.participated(),
        included=layout.included,
        tossed=layout.tossed,
        tensor=layout.tensor,
        tensors=np.array(layout.tensors, dtype=np.str_),
        unwatched=np.array([name for name in trained if name not in watched], dtype=np.str_),
        indices=np.concatenate((*recorder.batches, np.zeros(0, np.int64))),
        offsets=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        num_records=setup.num_records,
        residuals=np.array(recorder.residuals, np.float64),
        clipped_most=clipped_most,
        input_included=setup.inputs.included,
        input_score=fallen,
        input_kind=setup.inputs.kind,
        accuracy=_accuracy(setup, model),
        seconds=seconds,
    )


def cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    """Give one loss for each record."""
    return nn.functional.cross_entropy(scores, targets, reduction="none")


def _private(plan: RunPlan, setup: CanarySetup, model: AttachedModel, streams: Streams) -> PrivateStep:
    applied = applied_clip_norm(plan.clip_norm, plan.fault)
    engine = ClippingEngine(model, cross_entropy, clip_norm=applied)
    silent = _one_layer(model) if plan.fault == "layer_without_noise" else frozenset()
    noise = FaultyNoise(streams.noise, plan.fault, batch_size=setup.expected_batch_size, silent=silent)
    return PrivateStep(
        engine,
        _optimizer(plan, model),
        noise,
        noise_multiplier=plan.noise_multiplier * plan.clip_norm / applied,
        expected_batch_size=setup.expected_batch_size,
    )


def _one_layer(model: AttachedModel) -> frozenset[str]:
    """Name the first parameter tensor of the user's model."""
    return frozenset([next(name for name, _ in model.named_parameters() if name.startswith(MODEL))])


def _scheme(plan: RunPlan, num_records: int) -> SamplingScheme:
    """Fill in the batch size that draws the claimed share of the records."""
    record = dict(plan.scheme)
    if record["name"] in _BY_SIZE and "batch_size" not in record:
        record["batch_size"] = max(1, round(plan.rate * num_records))
    return scheme_from_json(record)


def _optimizer(plan: RunPlan, model: nn.Module) -> torch.optim.Optimizer:
    match plan.optimizer:
        case "sgd":
            return torch.optim.SGD(model.parameters(), lr=plan.learning_rate)
        case "momentum":
            return torch.optim.SGD(model.parameters(), lr=plan.learning_rate, momentum=0.9, weight_decay=1e-4)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=plan.learning_rate)


def _shadow(
    plan: RunPlan, setup: CanarySetup, model: AttachedModel
) -> Callable[[npt.NDArray[np.int64]], Mapping[str, Tensor]]:
    """Compute the ordinary records' clipped sum apart: another engine, in another clipping mode."""
    engine = ClippingEngine(model, cross_entropy, clip_norm=plan.clip_norm, clipping="ghost")
    originals = {id(parameter): name for name, parameter in model.tensors}
    names = {name: originals[id(parameter)] for name, parameter in model.named_parameters()}

    def known(batch: npt.NDArray[np.int64]) -> Mapping[str, Tensor]:
        ordinary = torch.from_numpy(batch[batch < setup.real])
        if not len(ordinary):
            return {}
        with torch.enable_grad():
            sums = engine(setup.rows[ordinary], setup.targets[ordinary]).sums
        return {original: sums[name] for name, original in names.items() if name in sums}

    return known


def _accuracy(setup: CanarySetup, model: nn.Module) -> float:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        scores = model(setup.rows[: setup.real, :-1].reshape(-1, *setup.shape))
        right = scores.argmax(1) == setup.targets[: setup.real]
    model.train(was_training)
    return float(right.float().mean())
