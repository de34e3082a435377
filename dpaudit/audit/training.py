"""A private training from its file: put together, run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpaudit.audit.training_checkpoint import save
from dpaudit.audit.training_parts import (
    Records,
    build_model,
    dtype_of,
    find_device,
    find_loss,
    load_records,
    make_optimizer,
)
from dpaudit.audit.training_privacy import PrivacyPlan, plan_privacy
from dpaudit.dpsgd import (
    BatchSampler,
    PrivateStep,
    PrivateTrainer,
    StepReport,
    make_private,
    secret_generator,
)
from dpaudit.dpsgd.clipping.choice import LayerChoice
from dpaudit.errors import DpauditError
from dpaudit.instrument.usercode import user_code
from dpaudit.trace import SamplingTrace
from dpaudit.training_file import TrainingFile, TrainingSettings

# Steps between looks at the parameters: a look waits for the device.
_LOOK_EVERY = 20


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """A training that is ready to run, or to go on."""

    file: TrainingFile
    plan: PrivacyPlan
    records: Records
    trainer: PrivateTrainer
    checkpoint: Path | None


def prepare(file: TrainingFile, *, checkpoint: Path | None = None, record: bool = False) -> Training:
    """Put a training together; with a seed, the same one every time.

    Args:
      file: what to train.
      checkpoint: where states are saved; it is not read here.
      record: keep which records were trained on in each step.

    Raises:
      DpauditError: something that the file names is missing or does not fit.
    """
    settings = file.training
    device, dtype = find_device(settings.device), dtype_of(settings.dtype)
    if settings.seed is None:
        torch.seed()
    else:
        torch.manual_seed(_derived(settings.seed, "weights"))
    records = load_records(file, device, dtype)
    if records.num_records < 1:
        raise DpauditError("there are no records to train on")
    model = build_model(file, records, device, dtype).train()
    plan = plan_privacy(settings, records.num_records)
    with _user_errors():
        private = _private_step(file, plan, model, device)
        trainer = PrivateTrainer(
            private,
            BatchSampler(plan.scheme, records.num_records, _generator(settings, "batches")),
            records.fetch,
            accountant=plan.epsilon_after,
            target_epsilon=plan.target_epsilon,
            physical_batch_size=settings.physical_batch_size,
            fixed_shape=settings.fixed_shape,
            for_audit=settings.for_audit,
            record=record,
        )
    return Training(file, plan, records, trainer, checkpoint)


def _private_step(
    file: TrainingFile, plan: PrivacyPlan, model: nn.Module, device: torch.device
) -> PrivateStep:
    settings = file.training
    return make_private(
        model,
        make_optimizer(settings, model),
        loss=find_loss(file.model, file.path),
        clip_norm=settings.clip_norm,
        noise_multiplier=plan.noise_multiplier,
        expected_batch_size=plan.expected_batch_size,
        clipping=settings.clipping,  # type: ignore[arg-type]
        groups=settings.groups,
        clip_function=settings.clip_function,
        nonfinite=settings.nonfinite,
        generator=None if settings.secure_noise else _generator(settings, "noise", device),
        noise_ahead=settings.noise_ahead,
        autocast=None if settings.autocast is None else dtype_of(settings.autocast),
        compile=settings.compile,
    )


def train(
    training: Training,
    *,
    watch: Callable[[StepReport], None] = lambda report: None,
    interrupted: Callable[[], bool] = lambda: False,
) -> bool:
    """Take the steps that are left, and save on the way, at the end, and when interrupted.

    Args:
      training: from `prepare`.
      watch: called after each step.
      interrupted: asked after each step.

    Returns:
      Whether the training came to its end; False where it was interrupted.

    Raises:
      DpauditError: the parameters are not finite any more, or a record cannot be trained on.
    """
    trainer, settings = training.trainer, training.file.training
    with running(training):
        for report in trainer.run(training.plan.steps - trainer.steps):
            watch(report)
            saves = training.checkpoint is not None and report.step % settings.checkpoint_every == 0
            if saves or report.step % _LOOK_EVERY == 0:
                require_finite(trainer)
            if interrupted():
                save(training)
                return False
            if saves:
                save(training)
        require_finite(trainer)
        save(training)
    return True


def require_finite(trainer: PrivateTrainer) -> None:
    """Refuse to go on with parameters that are not finite; they are private, so this tells of no record."""
    for name, parameter in trainer.private.engine.model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DpauditError(
                f"parameter {name!r} is not finite after step {trainer.steps}",
                "Begin again with a lower learning rate. The epsilon of the steps so far is spent.",
            )


def explain_clipping(training: Training) -> dict[str, LayerChoice]:
    """Find the route of each layer, in the model's order, on some records; nothing is trained."""
    plan, settings = training.plan, training.file.training
    wanted = settings.physical_batch_size or max(1, round(plan.expected_batch_size))
    numbers = torch.arange(min(wanted, plan.num_records))
    with running(training):
        training.trainer.private.clip(*training.trainer.fetch(numbers))
    engine = training.trainer.private.engine
    return {
        name: engine.choices[name] for name, _ in engine.model.named_parameters() if name in engine.choices
    }


def trace_of(training: Training) -> SamplingTrace:
    """Give the batches that were trained on, of a training that records them."""
    batches = training.trainer.batches
    if batches is None:
        raise ValueError("this training does not record its batches")
    return SamplingTrace.from_batches(
        [batch.numpy() for batch in batches], num_records=training.plan.num_records
    )


def _generator(settings: TrainingSettings, purpose: str, device: Any = "cpu") -> torch.Generator:
    if settings.seed is None:
        return secret_generator(device)
    return torch.Generator(device).manual_seed(_derived(settings.seed, purpose))


def _derived(seed: int, purpose: str) -> int:
    """Give each purpose a stream of its own; 32 bits are all that PyTorch takes on a processor."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:4], "little")


@contextmanager
def running(training: Training) -> Iterator[None]:
    """Show what a user's own model, loss or data raise with its traceback."""
    file = training.file
    sources = [spec for spec in (file.model.file, file.model.loss, file.data.file) if spec and ".py" in spec]
    with _user_errors(), user_code(f"train {', '.join(sources)}") if sources else nullcontext():
        yield


@contextmanager
def _user_errors() -> Iterator[None]:
    """What a wrong file makes pure functions raise is the user's to put right."""
    try:
        yield
    except ValueError as error:
        raise DpauditError(str(error)) from error
