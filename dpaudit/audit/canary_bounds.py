"""Lower bounds of a canary audit: planned first, then computed at 95 % for reading and higher to decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dpaudit.canary import ESTIMATORS, AuditPlan, PlannedBound, deciding_confidences, per_step_lower_bound
from dpaudit.canary.deciding import PER_STEP
from dpaudit.canary.observations import StepObservations
from dpaudit.canary.per_step import Measured
from dpaudit.canary_findings import CanaryBound, ThreatModel
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import DpauditError
from dpaudit.interval import EpsilonInterval
from dpaudit.scores import CanaryScores

READING = 0.95
# The per-step bound with what was measured without noise, and that of the tensor that leaks most.
_CHECKED_APART, _WEAKEST_TENSOR = "per_step_checked_apart", "per_step_weakest_tensor"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attack:
    """Scores of one attack, and the estimators that shall look at them."""

    scores: CanaryScores
    threat_model: ThreatModel
    estimators: tuple[str, ...]
    independent: bool = False
    """Whether the canaries score independently, by construction."""

    @property
    def canaries(self) -> int:
        """Canaries per run."""
        return max(1, round(self.scores.canaries / self.scores.runs))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What every bound is asked for."""

    claim: PrivacyClaim
    """Of the runs: their own number of steps, and the adjacency that epsilons are stated under."""
    delta: float
    plan: AuditPlan
    error: float
    """Probability that any deciding bound exceeds a true claim."""


def attack_bounds(
    attacks: Sequence[Attack],
    subject: Subject,
    observations: StepObservations | None = None,
    *,
    runs: int = 1,
    checked_apart: bool = False,
) -> tuple[tuple[CanaryBound, ...], tuple[str, ...]]:
    """Compute every bound.

    Args:
      attacks: scores.
      subject: what is asked for.
      observations: released updates, for the per-step bound; None: there are none.
      runs: that the observations come from.
      checked_apart: whether sampling rate and sensitivity were checked without noise, so that a second
        per-step bound may take them as claimed.

    Returns:
      The bounds, deciding ones behind those for reading; and notes on those that could not be had.
    """
    planned = [PlannedBound(estimator=PER_STEP)] * (0 if observations is None else 2)
    for attack in attacks:
        planned += [
            PlannedBound(estimator=name, independent_canaries=attack.independent)
            for name in attack.estimators
        ]
    confidences = list(deciding_confidences(planned, family_wise_error=subject.error))
    found: list[CanaryBound] = []
    notes: list[str] = []
    if observations is not None:
        whole, least = confidences.pop(0), confidences.pop(0)
        found += _per_step(observations, subject, whole, runs, checked_apart)
        found += _least_protected(observations, subject, least, runs)
    for attack in attacks:
        for name in attack.estimators:
            try:
                found += _from_scores(attack, name, subject, confidences.pop(0))
            except ValueError as error:
                notes.append(f"No {name} bound from the {attack.scores.attack}: {error}.")
            except DpauditError as error:
                notes.append(f"No {name} bound from the {attack.scores.attack}: {error.message}.")
    return tuple(found), tuple(notes)


def _from_scores(attack: Attack, name: str, subject: Subject, deciding: float | None) -> list[CanaryBound]:
    def bound(confidence: float) -> EpsilonInterval:
        return ESTIMATORS[name](
            attack.scores,
            delta=subject.delta,
            confidence=confidence,
            claim=subject.claim,
            plan=subject.plan,
        )

    return [
        CanaryBound(
            interval=interval,
            validity=ESTIMATORS[name].validity,
            threat_model=attack.threat_model,
            attack=attack.scores.attack,
            canaries=attack.canaries,
            runs=attack.scores.runs,
            decides=decides,
        )
        for interval, decides in _at_levels(bound, deciding)
    ]


def _per_step(
    observations: StepObservations, subject: Subject, deciding: float | None, runs: int, checked_apart: bool
) -> list[CanaryBound]:
    def bound(confidence: float, measured: Measured = "estimated") -> EpsilonInterval:
        return _composed(observations, subject, confidence, measured)

    rows = [(interval, decides, "every released update") for interval, decides in _at_levels(bound, deciding)]
    if checked_apart:
        words = "every released update; sampling and clipping checked apart"
        rows.append((replace(bound(READING, "claimed"), method=_CHECKED_APART), False, words))
    return [_white_box(interval, decides, words, observations, runs) for interval, decides, words in rows]


def _least_protected(
    observations: StepObservations, subject: Subject, deciding: float | None, runs: int
) -> list[CanaryBound]:
    """Bound epsilon by the parameter tensor that leaks most; their number is paid for.

    A record that lives in one tensor has only the noise of that tensor to hide it.
    """
    parts = _by_tensor(observations)
    # All that were watched, not those alone that show something: which do is a matter of chance.
    tensors = len(np.unique(np.asarray(observations.tensor)))

    def bound(confidence: float) -> EpsilonInterval:
        share = 1 - (1 - confidence) / tensors
        found = [_composed(part, subject, share, "estimated") for part in parts]
        best = max(found, key=lambda one: one.lower)
        return replace(best, confidence=confidence, method=_WEAKEST_TENSOR)

    if len(parts) < 2:
        return []
    words = "every released update of the least protected tensor"
    return [
        _white_box(interval, decides, words, observations, runs)
        for interval, decides in _at_levels(bound, deciding)
    ]


def _by_tensor(observations: StepObservations) -> list[StepObservations]:
    """Cut observations by parameter tensor; one without a participation shows no epsilon, and is left out."""
    labels = np.asarray(observations.tensor)
    parts = []
    for label in np.unique(labels):
        here = labels == label
        included = observations.included[here]
        if observations.participated[:, here].any() and not included.all():
            parts.append(
                StepObservations(
                    value=observations.value[:, here],
                    participated=observations.participated[:, here],
                    included=included,
                )
            )
    return parts


def _composed(
    observations: StepObservations, subject: Subject, confidence: float, measured: Measured
) -> EpsilonInterval:
    return per_step_lower_bound(
        observations,
        subject.claim,
        delta=subject.delta,
        confidence=confidence,
        rate=measured,
        sensitivity=measured,
    )


def _white_box(
    interval: EpsilonInterval, decides: bool, attack: str, observations: StepObservations, runs: int
) -> CanaryBound:
    return CanaryBound(
        interval=interval,
        validity="claim",
        threat_model="white_box",
        attack=attack,
        canaries=observations.canaries // runs,
        runs=runs,
        decides=decides,
    )


def _at_levels(
    bound: Callable[[float], EpsilonInterval], deciding: float | None
) -> list[tuple[EpsilonInterval, bool]]:
    found = [(bound(READING), False)]
    if deciding is not None:
        found.append((bound(deciding), True))
    return found
