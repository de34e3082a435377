"""Estimator: a named way from canary scores to a lower bound on epsilon, with what it rests on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dpaudit.canary.family import ApproximateDpFamily, Family, claimed_leakage, family_of
from dpaudit.canary.loss_pair import Floats
from dpaudit.canary.plan import AuditPlan
from dpaudit.claim import PrivacyClaim
from dpaudit.interval import Basis, EpsilonInterval
from dpaudit.scores import CanaryScores

Validity = Literal["claim", "iid", "any_dependence"]

_VALIDITY_NOTES = {
    "claim": "validity class: claim test (the claimed mechanism itself is the null hypothesis)",
    "iid": "validity class: iid (holds when canaries score independently; shared randomness breaks it)",
    "any_dependence": "validity class: any dependence (canaries may influence each other's scores)",
}
# Coins of this probability or less were not fair: one false alarm in a million audits.
_UNFAIR = 1e-6


@dataclass(frozen=True, slots=True)
class Question:
    """What a bound is asked for: delta, confidence, and what is known beforehand."""

    delta: float
    confidence: float
    claim: PrivacyClaim | None
    plan: AuditPlan

    @property
    def significance(self) -> float:
        """Allowed probability of a bound above the truth."""
        return 1 - self.confidence

    @property
    def family(self) -> Family:
        """Mechanisms that the bound is inverted over."""
        return family_of(self.claim, delta=self.delta)

    @property
    def claimed_leakage(self) -> float | None:
        """Where the claim stands in the family."""
        return None if self.claim is None else claimed_leakage(self.claim, self.family)


@dataclass(frozen=True, slots=True)
class Answer:
    """A lower bound in nats, before it is dressed up as an interval."""

    lower: float
    notes: tuple[str, ...] = ()
    numerical_error: float = 0.0


@dataclass(frozen=True, slots=True)
class Estimator:
    """A lower bound on epsilon from canary scores.

    With probability at least `confidence` over canary inclusion and training, the returned `lower` is
    at most the true epsilon, under the assumptions of its validity class, which every result names.
    """

    name: str
    validity: Validity
    """Whether the bound tests the claim alone, needs independent scores, or allows any dependence."""
    needs_claim: bool
    """Whether a claim must be given."""
    fair_coins: bool
    """Whether each canary must have been included by a fair coin."""
    reference: str
    bound: Callable[[CanaryScores, Question], Answer]
    asymptotic: bool = False
    """Whether its error is only nearly the nominal one: such a bound is reported, and refutes nothing."""

    def __call__(
        self,
        scores: CanaryScores,
        *,
        delta: float,
        confidence: float,
        claim: PrivacyClaim | None = None,
        plan: AuditPlan | None = None,
    ) -> EpsilonInterval:
        """Bound epsilon from below.

        Args:
          scores: which canaries were included, and how high each scores; higher means "included".
          delta: of the tested guarantee, in [0, 1).
          confidence: one-sided, in (0, 1).
          claim: the claimed mechanism; without noise, steps and sampling, nothing but
            (epsilon, delta)-DP is assumed.
          plan: threshold and guess count, fixed before unblinding.

        Returns:
          Interval from the bound to infinity, basis AUDIT; 0 where the scores show nothing.

        Raises:
          ValueError: delta or confidence out of range, a needed claim missing, or inclusion that no
            fair coin explains.
        """
        if not 0 <= delta < 1:
            raise ValueError(f"expected 0 <= delta < 1, got {delta!r}")
        if not 0 < confidence < 1:
            raise ValueError(f"expected 0 < confidence < 1, got {confidence!r}")
        if self.needs_claim and claim is None:
            raise ValueError(f"the estimator {self.name!r} needs a claim; give one with at least epsilon")
        if self.fair_coins:
            require_fair_coins(scores)
        question = Question(delta, confidence, claim, plan or AuditPlan())
        answer = self.bound(scores, question)
        notes = (_VALIDITY_NOTES[self.validity], *answer.notes)
        if plan is not None:
            notes = (*notes, f"plan {plan.fingerprint()}")
        return EpsilonInterval(
            lower=answer.lower,
            upper=math.inf,
            delta=delta,
            adjacency=(claim.adjacency if claim else None) or "add_or_remove_one",
            unit=(claim.unit if claim else None) or "record",
            scheme=claim.scheme if claim else None,
            method=self.name,
            basis=Basis.AUDIT,
            confidence=confidence,
            numerical_error=answer.numerical_error,
            reference=self.reference,
            notes=notes,
        )


def require_fair_coins(scores: CanaryScores) -> None:
    """Refuse inclusion that a fair coin per canary does not explain.

    Raises:
      ValueError: the two-sided binomial p-value of the included count is below one in a million.
    """
    from scipy.special import bdtr

    count, total = int(np.count_nonzero(scores.included)), scores.canaries
    p_value = min(1.0, 2 * float(bdtr(min(count, total - count), total, 0.5)))
    if p_value < _UNFAIR:
        raise ValueError(
            f"{count} of {total} canaries were included (p = {p_value:.1g} for fair coins); this estimator "
            "needs each canary included by a fair coin drawn after everything else was fixed"
        )


def rejected_up_to(leakage: Floats, p_values: Floats, significance: float) -> float | None:
    """Find the leakage up to which every weaker mechanism is rejected; None when none is.

    Args:
      leakage: of the tested mechanisms, shape (s,), rising.
      p_values: of each, shape (s,).
      significance: level of every test; the bound inverts them, so no correction is due.

    Returns:
      Leakage where the p-value first passes `significance`, interpolated linearly.
    """
    kept = np.flatnonzero(p_values > significance)
    if len(kept) == 0:
        return float(leakage[-1])
    first = int(kept[0])
    if first == 0:
        return None
    low, high = p_values[first - 1], p_values[first]
    part = (significance - low) / (high - low)
    return float(leakage[first - 1] + part * (leakage[first] - leakage[first - 1]))


def answer_at(question: Question, leakage: float | None, *notes: str) -> Answer:
    """Turn a rejected leakage into epsilon, and say what that assumes."""
    family = question.family
    assumed = f"assumes {family.sentence}"
    if isinstance(family, ApproximateDpFamily):
        assumed = f"assumes {family.sentence}; a claim with noise, steps and sampling gives a tighter bound"
    if leakage is None:
        return Answer(0.0, (assumed, *notes))
    lower, error = family.epsilon(leakage, question.delta)
    if leakage >= family.range[1]:
        notes = (*notes, "the scores separate further than the family was searched")
    return Answer(lower, (assumed, *notes), error)
