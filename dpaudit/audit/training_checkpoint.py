"""Checkpoints of a training: saved on the way, gone on with only by the training that wrote them.

A checkpoint holds the generators, so steps that are taken again draw the noise and the batches of the first
time. With other records, another loss or another learning rate their sums would differ: who saw both updates
could subtract them, and the noise would be gone.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dpaudit.dpsgd.checkpoint import load_state, save_state
from dpaudit.errors import DpauditError

if TYPE_CHECKING:
    from dpaudit.audit.training import Training
    from dpaudit.training_file import TrainingFile

# Settings that may change on the way: how long, how it is accounted, and how a batch is computed.
_FREE = {
    "steps", "target_epsilon", "delta", "adjacency", "checkpoint", "checkpoint_every", "clipping", "compile",
    "physical_batch_size", "fixed_shape", "noise_ahead", "device",
}  # fmt: skip
# Settings that the trainer compares by what they come to: a batch size, say, by its rate.
_COMPARED = {"scheme", "noise_multiplier", "expected_batch_size", "clip_norm", "groups", "for_audit"}


def save(training: Training) -> None:
    """Write the checkpoint of a training that has one.

    Raises:
      DpauditError: it cannot be written.
    """
    if training.checkpoint is not None:
        state = training.trainer.state() | {"file": _settings(training.file)}
        save_state(state, training.checkpoint)


def resume(training: Training) -> None:
    """Go on from the checkpoint of a training.

    Raises:
      DpauditError: there is none, or it is of another training.
    """
    if training.checkpoint is None:
        raise DpauditError(
            "there is no checkpoint to resume from", "Name one: checkpoint = ... or --checkpoint."
        )
    try:
        state = load_state(training.checkpoint)
        _require_same(state.get("file", {}), _settings(training.file))
        training.trainer.set_state(state)
    except ValueError as error:
        raise DpauditError(
            f"{training.checkpoint} cannot be gone on with: {error}",
            "Its noise and its batches belong to the training it was begun with. Set that back, or begin "
            "another one, which spends its own epsilon, with another --checkpoint.",
        ) from error


def _settings(file: TrainingFile) -> dict[str, Any]:
    """Give what a checkpoint and its resumption must have in common, beside what the trainer compares."""
    tables = {"model": asdict(file.model), "data": asdict(file.data), "training": asdict(file.training)}
    return {
        f"[{name}] {key}": value
        for name, table in tables.items()
        for key, value in table.items()
        if key not in _FREE | _COMPARED
    }


def _require_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    for name, value in now.items():
        if name not in before:
            raise ValueError(f"it does not say its {name}; `dpaudit train` did not write it")
        if before[name] != value:
            raise ValueError(f"it was begun with {name} = {before[name]!r}, not {value!r}")
