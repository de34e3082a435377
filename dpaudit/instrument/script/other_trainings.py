"""What a program trained beside the trace that is audited: told, and a doubt where it may be a part of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dpaudit.instrument.script.claim_log import ReadClaim
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.step_names import STATED, UPDATE
from dpaudit.instrument.script.traces import FedOptimizer

_APART = (
    "{} steps on the same data set, before or after those of the trace, were left out, for another optimizer "
    "object made them, or batches came from a pipeline that was made anew: whether they are part of this "
    "training is not seen. Keep one optimizer and data set for all of it, or audit one training at a time."
)
_BETWEEN = (
    "Batches of another data set ({}) came before the same steps, out of an iterator that was still open: "
    "which of both went into the gradients is not seen. Take batches that are not trained on in a loop of "
    "their own, or say the records: dpaudit.step(records) at the end of each step."
)
_SEVERAL = "that of several trainings, of which it is not told whose is which (audit one at a time)"


def notes_on_others(traces: Sequence[FedOptimizer]) -> Iterator[str]:
    """Name trainings that are not audited, unless they are much shorter."""
    main = traces[0]
    for other in traces[1:]:
        facts = other.recording.facts
        if _is_training(other, main) and 2 * other.recording.trace.steps >= main.recording.trace.steps:
            yield (
                f"Not audited: {other.batches} batches of another loader or for another optimizer "
                f"({facts.dataset or facts.loader}, {other.optimizer})."
            )


def claim_of_one(claim: ReadClaim, traces: Sequence[FedOptimizer]) -> ReadClaim:
    """Take no claim where accounts differ and there are several trainings that they may be of."""
    if claim.several and any(_is_training(other, traces[0]) for other in traces[1:]):
        return ReadClaim(unread=(_SEVERAL,))
    return claim


def why_incomplete(session: Session, traces: Sequence[FedOptimizer], claim: ReadClaim) -> str:
    """Say why the trace that is audited may be a part of the training alone; "" if it is the whole.

    Trainings that come one after the other, each accounted for by itself and of parameters of its own, are
    trainings of their own.
    """
    main = traces[0]
    left = [other for other in traces[1:] if _is_training(other, main) and _apart(other, main)]
    steps = sum(other.recording.trace.steps for other in left)
    if 2 * steps < main.recording.trace.steps or not left:
        return ""
    trained = session.parameters.get(main.number)
    goes_on = any(
        other.number == main.number
        or (trained is not None and session.parameters.get(other.number) == trained)
        for other in left
    )
    return _APART.format(steps) if goes_on or claim.accounts <= len(left) else ""


def why_mixed(traces: Sequence[FedOptimizer]) -> str:
    """Say why the steps of the trace may have used batches of another data set; "" if few came."""
    main = traces[0]
    if main.recording.facts.loader == STATED:
        return ""
    for other in traces[1:]:
        often = 2 * other.batches >= main.batches and other.batches > 1
        if often and other.number == main.number and other.feed != main.feed:
            shared = np.intersect1d(other.step_numbers, main.step_numbers, assume_unique=True)
            if 2 * len(shared) >= len(main.step_numbers):
                facts = other.recording.facts
                return _BETWEEN.format(facts.dataset or facts.loader)
    return ""


def _is_training(other: FedOptimizer, main: FedOptimizer) -> bool:
    """Tell a training beside the one that is audited from its own updates, after what was released."""
    return other.batches > 1 and not (other.optimizer == UPDATE != main.optimizer)


def _apart(other: FedOptimizer, main: FedOptimizer) -> bool:
    """Tell whether steps on the same data set were made before, or after, all those of the trace."""
    if other.feed == main.feed:
        return other.uses[1] <= main.uses[0] or main.uses[1] <= other.uses[0]
    if not (other.recording.trace.numbered_by_appearance and main.recording.trace.numbered_by_appearance):
        return False
    one, two = other.recording.names, main.recording.names
    if one is None or two is None or not len(np.intersect1d(one, two)):
        return False
    if other.number != main.number:
        return True
    spans = [(int(trace.step_numbers[0]), int(trace.step_numbers[-1])) for trace in (other, main)]
    return spans[0][1] < spans[1][0] or spans[1][1] < spans[0][0]
