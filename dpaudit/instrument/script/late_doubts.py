"""What can be said of steps that compiled code told: whether they show what went into them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dpaudit.instrument.script.claim_log import ReadClaim
from dpaudit.instrument.script.late_steps import UNTOLD, LateOptimizer
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.step_names import UPDATE
from dpaudit.instrument.script.traces import FedOptimizer

_REPEATED = (
    "Batches went into more than one step each. Several models that are trained side by side look the same "
    "as one that is trained twice on a batch: call dpaudit.step() at the end of each step of one of them."
)
_AGAIN = (
    "{} steps were made, in {} passes over batches, and {} are accounted for. Whether they are one training, "
    "or several that each began from a state which the program has kept, is not seen: audit one at a time."
)
_ACCUMULATED = (
    "optax.MultiSteps joins several batches in one step, which the update of the parameters does not show: "
    "call dpaudit.step() where it really steps."
)
_WHOLE = (
    "Each batch was taken to be used whole: what the program cuts off before its gradients is not seen, for "
    "nothing counts the records there, as jax_privacy.clipped_grad would."
)
_COUNTED = "At each step, as many records were clipped as the batches hold (jax_privacy.clipped_grad)."


def late_optimizer(session: Session, trace: FedOptimizer) -> LateOptimizer | None:
    """Give what told the steps of a trace; None where they were not told by compiled code."""
    return next((one for one in session.late.optimizers if session.number_of(one) == trace.number), None)


def why_unclear(session: Session, trace: FedOptimizer, claim: ReadClaim) -> str:
    """Say why the steps of a trace do not show what went into them, or into which training; "" if they do."""
    late = late_optimizer(session, trace)
    if late is None:
        return ""
    planned = claim.accounted_steps or (claim.calibrations[-1].steps if claim.calibrations else 0)
    begun = trace.recording.trace.epoch_starts
    if begun is not None and len(begun) > 1 and 0 < planned < trace.recording.trace.steps - 1:
        return _AGAIN.format(trace.recording.trace.steps, len(begun), planned)
    if session.late.accumulates and late.name == UPDATE:
        return _ACCUMULATED
    steps = trace.recording.trace.steps
    if steps > trace.batches:
        return _REPEATED
    told, held = _gradients(late, trace)
    other = int(np.count_nonzero((told != UNTOLD) & (told != held)))
    if not other:
        return ""
    return (
        f"In {other} of {steps} steps jax_privacy.clipped_grad was given another number of records than the "
        "batches hold: the program cuts them, adds to them, or does not say which places are padding "
        "(is_padding_example). Say what went in: dpaudit.step(records) at the end of each step."
    )


def late_notes(session: Session, trace: FedOptimizer) -> Iterator[str]:
    """Say what is assumed of steps that compiled code told."""
    late = late_optimizer(session, trace)
    if late is not None:
        yield _WHOLE if (_gradients(late, trace)[0] == UNTOLD).any() else _COUNTED


def _gradients(late: LateOptimizer, trace: FedOptimizer) -> tuple[np.ndarray, np.ndarray]:
    """Give the records that gradients were told to be of, and those that the batches hold, at each step."""
    return np.asarray(late.gradients, np.int64)[trace.step_numbers], trace.recording.trace.batch_sizes
