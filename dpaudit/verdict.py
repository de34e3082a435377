"""The verdict on a claim, and the one function that reaches it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dpaudit.canary_findings import CanaryEvidence
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.findings import Alternative, HypothesisTest
from dpaudit.interval import EpsilonInterval, format_lower, format_upper, require_comparable
from dpaudit.scheme import SamplingScheme


class Outcome(Enum):
    """What the evidence does to the claim; "proved private" is not among the answers."""

    CONSISTENT = "consistent"
    """Not refuted, and the audit could have seen the deviations of interest."""
    UNSUPPORTED = "unsupported"
    """What runs is not what the proof covers, and no other proof reaches the claim."""
    REFUTED = "refuted"
    """What runs is not as private as claimed: a lower bound exceeds the claim."""
    INCONCLUSIVE = "inconclusive"
    """Too little was seen to tell."""


SEVERITY = (Outcome.CONSISTENT, Outcome.INCONCLUSIVE, Outcome.UNSUPPORTED, Outcome.REFUTED)
"""From the mildest to the gravest."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One ground of a verdict: the rule it comes from and a sentence."""

    rule: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome with its grounds, the decisive one first."""

    outcome: Outcome
    reasons: tuple[Reason, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the verdict as the report's JSON holds it."""
        return {
            "outcome": self.outcome.value,
            "reasons": [{"rule": reason.rule, "sentence": reason.sentence} for reason in self.reasons],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Verdict:
        """Rebuild a verdict from `to_json`."""
        return cls(
            outcome=Outcome(record["outcome"]),
            reasons=tuple(Reason(reason["rule"], reason["sentence"]) for reason in record["reasons"]),
        )


def decide(claim: PrivacyClaim, evidence: Evidence) -> Verdict:
    """Weigh a claim against the evidence; the first rule that applies decides.

    1. A lower bound above the claimed epsilon, at the same delta, adjacency and unit: REFUTED.
    2. The observed scheme excludes the claimed one, and no upper bound that is valid for the
       observed scheme is within the claim; or canaries exclude the claimed mechanism: UNSUPPORTED.
    3. The observation was too small to show an alternative of interest: INCONCLUSIVE.
    4. Otherwise CONSISTENT, with the strongest lower bound that canaries found, or else the accountant's.

    All comparisons are on unrounded numbers. A bound at another delta, adjacency or unit than
    the claimed interval is refused (ValueError), never converted.

    Args:
      claim: `claim.epsilon` is the number under test; where it is None, the accountant's upper
        bound for the claimed scheme stands in (`evidence.claimed`).
      evidence: what was observed and computed.

    Returns:
      The verdict; INCONCLUSIVE where there is nothing to test.
    """
    against = objections(claim, evidence)
    if not against:
        reason = _not_refuted(evidence, claimed_epsilon(claim, evidence))
        return Verdict(outcome=Outcome.CONSISTENT, reasons=(reason,))
    gravest = against[0].outcome
    reasons = (reason for one in against if one.outcome is gravest for reason in one.reasons)
    return Verdict(outcome=gravest, reasons=tuple(reasons))


def objections(claim: PrivacyClaim, evidence: Evidence) -> tuple[Verdict, ...]:
    """List what speaks against a claim, each on its own, the gravest first.

    Each would stand if the others were answered for: lower bounds above the claim, another sampling,
    another mechanism, too little seen. Arguments as of `decide`, which heeds the gravest only.
    """
    limit = claimed_epsilon(claim, evidence)
    refuting: list[Reason] = []
    if limit is not None:
        refuting = [
            _refutation(bound, limit, claim.epsilon is not None)
            for bound in evidence.lower_bounds
            if _comparable(bound, claim, evidence).lower > limit
        ]
    nothing = Reason("DPA400", "There is no evidence to weigh.")
    found = (
        (Outcome.REFUTED, tuple(refuting)),
        (Outcome.UNSUPPORTED, _against_sampling(claim, evidence, limit)),
        (Outcome.UNSUPPORTED, _against_mechanism(evidence.canary)),
        (Outcome.INCONCLUSIVE, (nothing,) if _nothing_to_weigh(evidence) else _unseen(evidence)),
    )
    return tuple(Verdict(outcome=outcome, reasons=reasons) for outcome, reasons in found if reasons)


def claimed_epsilon(claim: PrivacyClaim, evidence: Evidence) -> float | None:
    """Give the epsilon under test: the claimed number, else the claimed scheme's upper bound."""
    if claim.epsilon is not None:
        return claim.epsilon
    return None if evidence.claimed is None else evidence.claimed.upper


def _comparable(bound: EpsilonInterval, claim: PrivacyClaim, evidence: Evidence) -> EpsilonInterval:
    if evidence.claimed is not None:
        require_comparable(bound, evidence.claimed)
    if claim.delta is not None and claim.delta != bound.delta:
        raise ValueError(f"the claim is at delta {claim.delta!r}, a bound at {bound.delta!r}")
    return bound


def _refutation(bound: EpsilonInterval, limit: float, stated: bool) -> Reason:
    what = "this audit finds" if bound.scheme is None else f"what runs ({_words(bound.scheme)}) has"
    certainty = "" if bound.confidence == 1 else f" (confidence {bound.confidence:g})"
    said = "The claim is epsilon" if stated else "The claimed parameters give epsilon"
    return Reason(
        "DPA301" if bound.scheme is None else "DPA201",
        f"{said} {_claimed(limit)} at delta {bound.delta:g}, but {what} epsilon at least "
        f"{format_lower(bound.lower)}{certainty}.",
    )


def _nothing_to_weigh(evidence: Evidence) -> bool:
    tested = evidence.canary is not None and evidence.canary.tests
    return evidence.observed is None and not tested and not evidence.lower_bounds


def _against_sampling(claim: PrivacyClaim, evidence: Evidence, limit: float | None) -> tuple[Reason, ...]:
    """Say that another sampling runs than was claimed, unless a proof covers it within the claim."""
    observed, covering = evidence.observed, evidence.observed_interval
    if observed is None or not observed.contradicts_claim or _covered(evidence, limit):
        return ()
    known = ""
    if covering is not None and math.isfinite(_comparable(covering, claim, evidence).upper):
        known = f" What is proved for that is epsilon at most {format_upper(covering.upper)}"
        known += "." if limit is None else f", not {_claimed(limit)}."
    sentence = f"What runs is not the sampling that was claimed: {observed.description}.{known}"
    return (Reason("DPA202", sentence), *_tests(observed.rejections))


def _against_mechanism(canary: CanaryEvidence | None) -> tuple[Reason, ...]:
    """Say that canaries exclude the claimed mechanism."""
    if canary is None or not canary.contradicts_claim:
        return ()
    named = ", ".join(dict.fromkeys(test.name for test in canary.rejections))
    sentence = f"What runs is not the mechanism that was claimed; canaries show it by: {named}."
    return (Reason("DPA300", sentence), *_tests(canary.rejections))


def _tests(rejections: tuple[HypothesisTest, ...]) -> tuple[Reason, ...]:
    worst_first = sorted(rejections, key=lambda test: test.adjusted_p_value)
    return tuple(
        Reason(test.rule, f"Rejected: {test.null_hypothesis} (p = {test.adjusted_p_value:.2g}).")
        for test in worst_first
    )


def _covered(evidence: Evidence, limit: float | None) -> bool:
    """Whether another sampling runs than was claimed, and is proved to be within the claim."""
    observed, covering = evidence.observed, evidence.observed_interval
    if observed is None or covering is None or limit is None:
        return False
    return observed.contradicts_claim and covering.upper <= limit


def _unseen(evidence: Evidence) -> tuple[Reason, ...]:
    """Name the deviations that were too small to see; those of a sampling that is known do not matter."""
    observed, canary = evidence.observed, evidence.canary
    found: tuple[Reason, ...] = ()
    if observed is not None and not observed.contradicts_claim:
        found = _too_little(observed.unseen, f"{observed.steps} steps")
    if canary is not None:
        found += _too_little(canary.unseen, "the canaries")
    return found


def _too_little(unseen: tuple[Alternative, ...], what: str) -> tuple[Reason, ...]:
    """Name what could not be seen, the one that needs most steps first."""
    hardest_first = sorted(unseen, key=lambda one: -(one.steps_needed or math.inf))
    return tuple(
        Reason(
            "DPA100",
            f"{what[0].upper()}{what[1:]} would show {one.name} only with probability {one.power:.0%}"
            + (f"; {one.steps_needed} steps are needed." if one.steps_needed else "."),
        )
        for one in hardest_first
    )


def _not_refuted(evidence: Evidence, limit: float | None) -> Reason:
    observed, covering, canary = evidence.observed, evidence.observed_interval, evidence.canary
    if observed is not None and covering is not None and limit is not None and _covered(evidence, limit):
        return Reason(
            "DPA203",
            f"What runs is not the sampling that was claimed ({observed.description}), but it is proved "
            f"to have epsilon at most {format_upper(covering.upper)}, within the claimed {_claimed(limit)}.",
        )
    agreeing = [] if observed is None else ["the observed batches agree with the claimed sampling"]
    if canary is not None and canary.tests:
        agreeing.append(_mechanism_in_words(canary))
    if limit is not None:
        agreeing.append(f"{_strongest(evidence)} does not exceed the claimed epsilon {_claimed(limit)}")
    *before, last = agreeing
    sentence = (", ".join(before) + ", and " if before else "") + last + "."
    return Reason("DPA101", sentence[0].upper() + sentence[1:])


def _strongest(evidence: Evidence) -> str:
    """Word the strongest lower bound: of the canaries where they decided, else of the accountant."""
    by_canaries = () if evidence.canary is None else evidence.canary.deciding
    where = "that canaries found" if by_canaries else "found"
    lower = max((bound.lower for bound in by_canaries or evidence.lower_bounds), default=0.0)
    return f"the strongest lower bound {where}, {format_lower(lower)},"


def _mechanism_in_words(canary: CanaryEvidence) -> str:
    if not canary.rejections:
        return "the released updates agree with the claimed noise and clipping"
    named = ", ".join(dict.fromkeys(test.name for test in canary.rejections))
    return (
        f"the released updates differ from the claimed mechanism only to the side of more privacy ({named})"
    )


def _words(scheme: SamplingScheme) -> str:
    return scheme.name.replace("_", " ")


def _claimed(limit: float) -> str:
    """Print a claimed epsilon: as it was stated where it is short, else rounded up."""
    stated = f"{limit:.6g}"
    return stated if float(stated) == limit else format_upper(limit)
