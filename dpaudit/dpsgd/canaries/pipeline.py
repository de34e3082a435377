"""PipelineCanaries: what a training of one's own gets, so that an engine can be audited as it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import TensorDataset

from dpaudit.dpsgd.canaries.attached import AttachedModel
from dpaudit.dpsgd.canaries.data import LabelledData, load_data
from dpaudit.dpsgd.canaries.recorded_run import RecordedRun
from dpaudit.dpsgd.canaries.recorder import Recorder
from dpaudit.dpsgd.canaries.reference_run import recorded
from dpaudit.dpsgd.canaries.run_plan import RunPlan
from dpaudit.dpsgd.canaries.setup import CanarySetup, Streams, attach, input_losses, set_up
from dpaudit.errors import DpauditError


class PipelineCanaries:
    """The canaries of one run, handed to a function `train(canaries)`.

        def train(canaries):
            model = canaries.attach(build_model())      # first: the data set depends on it
            loader = DataLoader(canaries.dataset, batch_size=...)
            ...                                         # any engine, any optimizer
            canaries.watch(optimizer, divisor=...)      # last before training
            for inputs, targets in loader: ...          # as ever, until canaries.done

    Inputs are flat rows that only the attached model can read; the loss is cross entropy over its class
    scores.

    Attributes:
      plan: the settings of the audit, the claimed ones among them.
      seed: of this run.
      steps: optimizer steps to take.
    """

    def __init__(self, plan: RunPlan, run: int) -> None:
        self.plan, self.steps = plan, plan.steps
        self._streams = Streams.of(plan.seed, run)
        self.seed = self._streams.model
        self._setup: CanarySetup | None = None
        self._bare: nn.Module | None = None
        self._attached: AttachedModel | None = None
        self._recorder: Recorder | None = None
        self._before = torch.zeros(0).double().numpy()

    @property
    def data(self) -> LabelledData:
        """Features and classes of the ordinary records, to see what model they need."""
        return load_data(self.plan.data)

    def attach(self, model: nn.Module) -> nn.Module:
        """Plug canaries into a model, toss their coins, and put the included ones into the data set.

        Raises:
          DpauditError: a model is attached already.
        """
        if self._setup is not None:
            raise DpauditError("canaries are attached to a model already", "Attach one model a run.")
        self._setup, self._bare = set_up(self.plan, self._streams, build=lambda: model)
        self._attached = attach(self._setup, model, silent=self.plan.records == "silent")
        self._before = input_losses(self._setup, model)
        return self._attached

    @property
    def dataset(self) -> TensorDataset:
        """Rows and classes of every record, canaries included, to be sampled from as claimed."""
        setup = self._ready()
        return TensorDataset(setup.rows, setup.targets)

    @property
    def num_records(self) -> int:
        """Size of the data set."""
        return self._ready().num_records

    @property
    def done(self) -> bool:
        """Whether all steps were recorded."""
        return self._recorder is not None and len(self._recorder.batches) >= self.steps

    def watch(self, optimizer: torch.optim.Optimizer, *, divisor: float) -> None:
        """Record every step of the optimizer from now on.

        Args:
          optimizer: as it is used; wrappers such as that of Opacus are looked through.
          divisor: what the engine divides the noisy sum of clipped gradients by: for a mean loss the
            expected batch size (in Opacus, `optimizer.expected_batch_size`), for a sum 1.

        Raises:
          DpauditError: called twice, before `attach`, or for an optimizer that cannot be read.
        """
        setup = self._ready()
        if self._recorder is not None:
            raise DpauditError("an optimizer is watched already", "Watch one optimizer a run.")
        if not divisor > 0:
            raise DpauditError(f"divisor = {divisor!r} must be positive")
        assert self._attached is not None
        self._recorder = Recorder(
            model=self._attached,
            layout=setup.layout,
            clip_norm=self.plan.clip_norm,
            divisor=divisor,
            real=setup.real,
            source=self.plan.read,
        )
        self._attached.saw = self._recorder.saw
        self._recorder.watch(optimizer)

    def finish(self, seconds: float) -> RecordedRun:
        """Give what was recorded.

        Raises:
          DpauditError: training did not watch an optimizer, or took fewer steps than were asked for.
        """
        if self._recorder is None or self._bare is None:
            raise DpauditError("train did not call canaries.watch(optimizer, divisor=...)")
        if len(self._recorder.batches) < self.steps:
            raise DpauditError(
                f"train took {len(self._recorder.batches)} optimizer steps, not {self.steps}",
                "Go on until canaries.done, or ask for fewer steps.",
            )
        fallen = self._before - input_losses(self._ready(), self._bare)
        return recorded(self._recorder, self._ready(), self._bare, fallen=fallen, seconds=seconds)

    def _ready(self) -> CanarySetup:
        if self._setup is None:
            raise DpauditError("no model is attached yet", "Call canaries.attach(model) first.")
        return self._setup


def train_pipeline(plan: RunPlan, run: int, train: Callable[[PipelineCanaries], object]) -> RecordedRun:
    """Run a training of the user's own once, with canaries in it.

    The global generators of torch are seeded before, so that an engine that uses them can be run again.

    Raises:
      DpauditError: the training did not keep to the protocol of `PipelineCanaries`.
    """
    start = time.perf_counter()
    canaries = PipelineCanaries(plan, run)
    torch.manual_seed(canaries.seed)
    train(canaries)
    return canaries.finish(time.perf_counter() - start)
