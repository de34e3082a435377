"""What a canary audit ran, in words: for the head of its report, and for its notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dpaudit.canary_findings import MechanismRow
from dpaudit.scores import CanaryScores

if TYPE_CHECKING:
    from dpaudit.dpsgd.canaries import RecordedRun, RunPlan

# A canary that adds less of a clip norm did not come through the layer that it was planted in.
_ARRIVED = 0.5


def describe_runs(
    runs: Sequence[RecordedRun], plan: RunPlan, black_box: CanaryScores | None
) -> tuple[tuple[str, str], ...]:
    """Say what was run, as pairs of label and value."""
    first = runs[0]
    canaries, included = int(first.tossed.sum()), int(first.included.sum())
    accuracy = float(np.mean([run.accuracy for run in runs]))
    rows = [
        ("Training", plan.train or "reference DP-SGD"),
        ("Model", plan.model if not plan.train else "of the training's own"),
        ("Data", plan.data),
        ("Records", f"{first.num_records:,}, canaries included"),
        ("Sampler that ran", str(plan.scheme["name"]).replace("_", " ")),
        ("Optimizer", "of the training's own" if plan.train else plan.optimizer),
        ("Read from", "parameters" if plan.read == "parameters" else "released gradients"),
        ("Runs", f"{len(runs)} of {plan.steps} steps"),
        ("Gradient canaries", f"{canaries:,} a run, {included:,} included in the first"),
        ("Input canaries", f"{len(first.input_score):,} a run"),
        ("Seed", str(plan.seed)),
        ("Seconds of training", f"{sum(run.seconds for run in runs):.1f}"),
    ]
    if black_box is not None:
        rows.append(("Small models", f"{black_box.runs:,}, one canary each"))
    if math.isfinite(accuracy):
        rows.append(("Accuracy on the training records", f"{accuracy:.3f}"))
    if plan.fault:
        rows.append(("Fault switched on", plan.fault.replace("_", " ")))
    return tuple(rows)


def remark_on(
    runs: Sequence[RecordedRun], plan: RunPlan, mechanism: Sequence[MechanismRow]
) -> tuple[str, ...]:
    """Say what the runs could not see."""
    notes = []
    unwatched = [str(name).removeprefix("model.") for name in runs[0].unwatched]
    if unwatched:
        notes.append(f"No noise was watched in: {', '.join(unwatched)}. A fault there would not be seen.")
    blind = [
        str(name).removeprefix("model.")
        for index, name in enumerate(runs[0].tensors)
        if (runs[0].tensor == index).any() and not runs[0].tossed[runs[0].tensor == index].any()
    ]
    if blind:
        notes.append(f"No canary reaches {', '.join(blind)}; only the noise there was watched.")
    lost = [row.tensor for row in mechanism if (row.sensitivity_high or 1.0) < _ARRIVED]
    if lost:
        notes.append(
            f"Canaries in {', '.join(lost)} hardly reached the update: the training uses these parameters in "
            "another way than by calling their layers. Sensitivity was not tested there."
        )
    if plan.records == "silent":
        notes.append(
            "Ordinary records were given no gradient, so that every tensor shows noise and canaries alone; "
            "how the engine treats ordinary gradients was not looked at."
        )
    return tuple(notes)
