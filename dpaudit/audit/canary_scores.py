"""Audit a claim by canary scores from outside: every estimator that applies, each with what it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpaudit.audit.canary_bounds import Attack, Subject, attack_bounds
from dpaudit.audit.canary_summary import summarise_scores
from dpaudit.audit.epsilons import bracket
from dpaudit.audit.fields import stated_fields
from dpaudit.audit.setting import DEFAULT_DELTA, settle
from dpaudit.audit_report import AuditReport
from dpaudit.canary import ESTIMATORS, AuditPlan, PlannedBound, claim_gate, deciding_confidences, score_test
from dpaudit.canary.estimator import require_fair_coins
from dpaudit.canary.family import Family, family_of
from dpaudit.canary.loss_pair import LossPair
from dpaudit.canary_findings import CanaryEvidence, ThreatModel
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import ClaimError
from dpaudit.evidence import Evidence
from dpaudit.findings import Alternative, HypothesisTest
from dpaudit.interval import EpsilonInterval
from dpaudit.provenance import collect
from dpaudit.scores import CanaryScores
from dpaudit.verdict import decide

_SIMULATIONS = 20
_MOST_SIMULATED = 100_000
_SEED = 20250922


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoresSource:
    """Where scores come from, for the head of the report."""

    title: str
    inputs: tuple[Path, ...]
    command: tuple[str, ...]
    threat_model: ThreatModel = "black_box"


def audit_scores(
    scores: CanaryScores,
    claim: PrivacyClaim,
    *,
    source: ScoresSource,
    plan: AuditPlan | None = None,
    significance: float = 1e-3,
) -> AuditReport:
    """Bound epsilon by every estimator that applies, and decide by those that hold for these scores.

    Estimators that need independent canaries decide only where every score comes from a run of its own. If
    the claim is true, it is refuted or left unsupported with probability at most the significance.

    Args:
      scores: which canaries were included, and how high each scored.
      claim: with epsilon, or with all that one can be computed from.
      source: for the report.
      plan: choices that were made before inclusion was looked at.
      significance: family-wise, in (0, 0.5].

    Raises:
      ClaimError: the claim gives no epsilon to hold anything against.
    """
    claim = replace(
        claim, delta=claim.delta or DEFAULT_DELTA, adjacency=claim.adjacency or "add_or_remove_one"
    )
    delta = claim.delta or DEFAULT_DELTA
    claimed, remarks = _claimed(claim)
    alone = scores.runs == scores.canaries
    attack = Attack(
        scores=replace(scores, attack=scores.attack or "scores from outside"),
        threat_model=source.threat_model,
        estimators=_applicable(scores),
        independent=alone,
    )
    test = score_test(scores, claim, delta=delta) if alone else None
    # Each side may refute, so each gets half of the error; without a test the bounds get it all.
    error = significance / 2 if test is not None else significance
    subject = Subject(claim=claim, delta=delta, plan=plan or AuditPlan(), error=error)
    bounds, notes = attack_bounds([attack], subject)
    tests: tuple[HypothesisTest, ...] = ()
    if test is not None:
        tests = claim_gate([test], significance=error).tests
    summary = summarise_scores(attack.scores, claim, delta=delta, threat_model=source.threat_model)
    canary = CanaryEvidence(
        bounds=bounds,
        tests=tests,
        family_wise_error=significance,
        contradicts_claim=any(one.rejected for one in tests),
        alternatives=_alternatives(
            attack, subject, claim.epsilon or (claimed.upper if claimed else math.nan)
        ),
        scores=() if summary is None else (summary,),
        setting=(
            ("Scores", f"{scores.canaries:,} of {scores.runs:,} runs"),
            ("Included", f"{int(np.count_nonzero(scores.included)):,}"),
        ),
        plan=subject.plan.fingerprint(),
        notes=(*notes, *_remarks(scores, alone)),
    )
    evidence = Evidence(claimed=claimed, canary=canary)
    return AuditReport(
        kind="canary",
        title=source.title,
        target=", ".join(path.name for path in source.inputs[:1]),
        claim=claim,
        evidence=evidence,
        assumed=False,
        verdict=decide(claim, evidence),
        fields=stated_fields(claim, claimed),
        advice=(),
        summary=None,
        provenance=collect(command=source.command, inputs=source.inputs),
        notes=(*remarks, *canary.notes),
    )


def _claimed(claim: PrivacyClaim) -> tuple[EpsilonInterval | None, tuple[str, ...]]:
    if claim.scheme is not None and claim.noise_multiplier is not None and claim.total_steps is not None:
        setting, notes = settle(
            claim, claim.scheme, (claim.scheme,), num_records=claim.num_records or 1, steps=claim.total_steps
        )
        interval, gap = bracket(claim.scheme, setting)
        if interval is not None and interval.adjacency == claim.adjacency:
            return interval, notes
        if claim.epsilon is not None:
            return None, (gap,) if gap else ()
    if claim.epsilon is None:
        raise ClaimError(
            "the claim has no epsilon to hold the scores against",
            "State epsilon, or noise_multiplier, steps and scheme.",
        )
    return None, ()


def _applicable(scores: CanaryScores) -> tuple[str, ...]:
    one_run = scores.runs == 1
    return tuple(
        name
        for name, estimator in ESTIMATORS.items()
        if estimator.validity != "claim" and not (one_run and name.startswith("run_level"))
    )


def _remarks(scores: CanaryScores, alone: bool) -> tuple[str, ...]:
    notes = []
    try:
        require_fair_coins(scores)
    except ValueError as error:
        notes.append(f"Inclusion was not by fair coins: {error}.")
    if not alone:
        notes.append(
            "Several canaries share a run, so bounds of the iid class are for reading only: they hold where "
            "canaries score independently, which nobody checked."
        )
    return tuple(notes)


def _alternatives(attack: Attack, subject: Subject, limit: float) -> tuple[Alternative, ...]:
    """Say whether even the best attack on so many canaries would have shown twice the claimed epsilon.

    Where no mechanism of the family is that weak, nothing would have shown it.
    """
    family = family_of(subject.claim, delta=subject.delta)
    leakage = _leakage_at(family, 2 * limit, subject.delta)
    power = 0.0 if leakage is None else _power(attack, subject, family.pair(leakage), limit)
    return (
        Alternative(
            name="twice the claimed epsilon, even to the best attack,",
            power=power,
            steps_needed=None,
            of_interest=True,
        ),
    )


def _power(attack: Attack, subject: Subject, pair: LossPair, limit: float) -> float:
    """Simulate how often a deciding bound exceeds the limit under the best attack on a mechanism."""
    planned = [
        PlannedBound(estimator=name, independent_canaries=attack.independent) for name in attack.estimators
    ]
    levels = deciding_confidences(planned, family_wise_error=subject.error)
    deciding = [
        (name, level) for name, level in zip(attack.estimators, levels, strict=True) if level is not None
    ]
    scores, rng = attack.scores, np.random.default_rng(_SEED)
    rounds = _SIMULATIONS if scores.canaries <= _MOST_SIMULATED else 3
    shown = 0
    for _ in range(rounds):
        drawn = _drawn(pair, scores, rng)
        shown += any(
            ESTIMATORS[name](
                drawn, delta=subject.delta, confidence=level, claim=subject.claim, plan=AuditPlan()
            ).lower
            > limit
            for name, level in deciding
        )
    return shown / rounds


def _drawn(pair: LossPair, scores: CanaryScores, rng: np.random.Generator) -> CanaryScores:
    """Draw coins and scores of the best attack on a mechanism, as many as there are."""
    included = rng.random(scores.canaries) < 0.5
    outcome = np.empty(scores.canaries)
    for group, mass in ((included, pair.included), (~included, pair.excluded)):
        cumulative = np.cumsum(mass)
        draws = rng.random(int(group.sum())) * cumulative[-1]
        outcome[group] = -np.searchsorted(cumulative, draws)
    return CanaryScores(included=included, score=outcome, run=scores.run)


def _leakage_at(family: Family, epsilon: float, delta: float) -> float | None:
    """Find the member of a family with this epsilon; None where it has none."""
    low, high = family.range
    if not math.isfinite(epsilon) or family.epsilon(high, delta)[0] < epsilon:
        return None
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if family.epsilon(middle, delta)[0] > epsilon else (middle, high)
    return high
