"""What a private training gave: the claim it deserves, and how good the model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dpaudit.audit.training import Training, running
from dpaudit.audit.training_privacy import state_claim
from dpaudit.claim import PrivacyClaim
from dpaudit.dpsgd.clipping.batches import call_model
from dpaudit.interval import EpsilonInterval


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What may be told of a training: it depends on the training records through the private model alone."""

    title: str
    claim: PrivacyClaim | None
    """None before the first step."""
    epsilon: EpsilonInterval | None
    steps: int
    planned_steps: int
    stopped_by: str
    """"all steps taken" or "target epsilon"."""
    for_audit: bool
    test_accuracy: float | None
    """On records that were set aside; None where there are none, or the outputs are no class scores."""
    test_records: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return {
            "schema_version": "1",
            "kind": "training",
            "title": self.title,
            "claim": None if self.claim is None else self.claim.to_json(),
            "epsilon": None if self.epsilon is None else self.epsilon.to_json(),
            "steps": self.steps,
            "planned_steps": self.planned_steps,
            "stopped_by": self.stopped_by,
            "for_audit": self.for_audit,
            "test_accuracy": self.test_accuracy,
            "test_records": self.test_records,
            "notes": list(self.notes),
        }


def conclude(training: Training) -> TrainingResult:
    """Say what was trained and what it guarantees."""
    trainer, plan, settings = training.trainer, training.plan, training.file.training
    steps = trainer.steps
    notes = list(plan.notes)
    if settings.seed is not None and plan.noise_multiplier:
        notes.append(
            "Seeded: who knows the seed can take the noise off. For a release, train without a seed."
        )
    claim = None
    if steps:
        claim = state_claim(plan, settings, steps, trainer.private.engine.groups.sensitivity)
    accuracy, tested = _test(training)
    return TrainingResult(
        title=training.file.title,
        claim=claim,
        epsilon=trainer.spent,
        steps=steps,
        planned_steps=plan.steps,
        stopped_by="all steps taken" if steps == plan.steps else "target epsilon",
        for_audit=settings.for_audit,
        test_accuracy=accuracy,
        test_records=tested,
        notes=tuple(notes),
    )


@torch.no_grad()
def _test(training: Training) -> tuple[float | None, int]:
    if training.records.test is None:
        return None, 0
    inputs, targets = training.records.test
    model = training.trainer.private.engine.model
    was_training = model.training
    with running(training):
        outputs = call_model(model.eval(), inputs)
    model.train(was_training)
    scores = (
        isinstance(outputs, Tensor)
        and outputs.dim() == 2
        and targets.dim() == 1
        and not targets.is_floating_point()
    )
    if not scores:
        return None, len(targets)
    return float((outputs.argmax(1) == targets).double().mean()), len(targets)
