"""Which lower bounds may refute a claim, and at what confidence, so that a true one seldom is.

An audit reports many bounds at 95 %: among twenty of a true claim one is expected to lie above it. What
refutes must hold with all the others at once, and must not rest on an assumption that nobody checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpaudit.canary.claim_gate import GATE_SIGNIFICANCE
from dpaudit.canary.estimators import ESTIMATORS
from dpaudit.errors import nearest_name

# The lower bound of `per_step_lower_bound`: its assumptions are parts of the claim itself.
PER_STEP = "per_step"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBound:
    """A lower bound that an audit will compute, named before inclusion is unblinded.

    Raises:
      ValueError: no such estimator.
    """

    estimator: str
    """Name of a member of `ESTIMATORS`, or "per_step"."""
    independent_canaries: bool = False
    """Whether the canaries of these scores are independent: because each has coordinates of its own and
    the tests of independent noise did not reject, or because every score comes from a run of its own."""

    def __post_init__(self) -> None:
        known = (*ESTIMATORS, PER_STEP)
        if self.estimator not in known:
            hint = nearest_name(self.estimator, known) or f"known: {', '.join(known)}"
            raise ValueError(f"unknown estimator {self.estimator!r}; {hint}")

    @property
    def may_decide(self) -> bool:
        """Whether the bound may refute a claim.

        An asymptotic bound may not: at a level of one in a thousand nobody knows its error. Nor may one
        that needs independent canaries where they are not known to be. A test of the claimed mechanism
        never exceeds the claim; it belongs to the tests of the gate.
        """
        if self.estimator == PER_STEP:
            return True
        estimator = ESTIMATORS[self.estimator]
        if estimator.asymptotic or estimator.validity == "claim":
            return False
        return estimator.validity == "any_dependence" or self.independent_canaries


def deciding_confidences(
    planned: Sequence[PlannedBound], *, family_wise_error: float = GATE_SIGNIFICANCE
) -> tuple[float | None, ...]:
    """Share a family-wise error out over the bounds that may refute a claim.

    If the claim is true, the probability that any of these bounds exceeds the claimed epsilon is at most
    `family_wise_error`, however the bounds depend on each other (Bonferroni). The claim is then the
    mechanism with all its parameters: a bound over the claimed kind of mechanism passes the claim's
    epsilon only if it rejects that mechanism.

    Where the tests of a `claim_gate` may refute too, give each side half of the error. Under a
    `spending_file` the error is the level of the attempt.

    Args:
      planned: all bounds of the audit, over all attacks; planned before unblinding.
      family_wise_error: in (0, 1).

    Returns:
      For each bound the confidence at which it decides, None where it only reports.

    Raises:
      ValueError: error out of range.
    """
    if not 0 < family_wise_error < 1:
        raise ValueError(f"expected 0 < family_wise_error < 1, got {family_wise_error!r}")
    deciding = sum(bound.may_decide for bound in planned)
    return tuple(1 - family_wise_error / deciding if bound.may_decide else None for bound in planned)
