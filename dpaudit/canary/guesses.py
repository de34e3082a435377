"""Guess counting: how many canaries the attack commits on, decided without looking at inclusion."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from dpaudit.canary.estimator import Question
from dpaudit.canary.family import ApproximateDpFamily, Family
from dpaudit.canary.loss_pair import LossPair
from dpaudit.canary.plan import Side
from dpaudit.canary.rank_statistics import tied_places
from dpaudit.scores import CanaryScores

# Shares of the canaries that a plan chooses from; the best one falls with epsilon and with m.
_SHARES = (
    *(0.0005, 0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03),
    *(0.04, 0.05, 0.06, 0.07, 0.085, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.7, 1.0),
)
_PATIENCE = 3
# Share to guess on when no number of guesses is expected to show anything.
_FALLBACK = 0.1
# With no mechanism to plan on, these are all tried, each at a third of the error.
_UNPLANNED = (0.02, 0.2, 1.0)


class CountBound(Protocol):
    """A lower bound on epsilon from guess counts; hashable, since plans made with it are kept."""

    def __hash__(self) -> int:
        """Identify the bound among the kept plans."""

    def __call__(self, canaries: int, guesses: int, right: int, significance: float) -> float:
        """Bound epsilon given `right` of `guesses` guesses on `canaries` canaries."""


def best_count_bound(scores: CanaryScores, question: Question, bound: CountBound) -> tuple[float, str]:
    """Count right guesses at the planned number of guesses, and bound epsilon by them.

    The number comes from the plan; else from the claimed mechanism, whose expected number of right
    guesses is known; else three numbers are tried and the error is split between them. In no case
    does it depend on who was included.

    Returns:
      The bound in nats, and a note on the counts.

    Raises:
      ValueError: the plan guesses on more canaries than there are.
    """
    options, origin = _guess_options(scores.canaries, question, bound)
    found = []
    for guesses, side in options:
        right = right_guesses(scores, guesses, side)
        lower = bound(scores.canaries, guesses, right, question.significance / len(options))
        found.append((lower, guesses, right, side))
    lower, guesses, right, side = max(found)
    return lower, f"{right} of {guesses} guesses right (side: {side}); number of guesses {origin}"


def right_guesses(scores: CanaryScores, guesses: int, side: Side) -> int:
    """Count the guesses that come true: inclusion of the highest scores, exclusion of the lowest.

    Args:
      scores: of m canaries.
      guesses: r in 1..m.
      side: which guesses are made; both in equal number, an odd one on the excluded side.
    """
    top = {"both": guesses // 2, "included": guesses, "excluded": 0}[side]
    bottom = guesses - top
    present = _included_among_highest(scores, top)
    lowest = int(np.count_nonzero(scores.included))
    if top + bottom == scores.canaries:
        return present + bottom - (lowest - present)
    lowest -= _included_among_highest(scores, scores.canaries - bottom)
    return present + bottom - lowest


def _included_among_highest(scores: CanaryScores, count: int) -> int:
    """Count the included of the `count` highest scores; which of the tied ones is left to a coin."""
    if count == 0:
        return 0
    place = len(scores.score) - count
    cut = np.partition(scores.score, place)[place]
    above = scores.score > cut
    ties = np.flatnonzero(scores.score == cut)
    taken = tied_places(len(ties))[: count - int(np.count_nonzero(above))]
    return int(np.count_nonzero(scores.included & above) + np.count_nonzero(scores.included[ties[taken]]))


def expected_right(pair: LossPair, share: float, side: Side) -> float:
    """Compute the expected share of right guesses, of all canaries, when `share` of them are guessed."""
    included = np.concatenate(([0.0], np.cumsum(pair.included)))
    excluded = np.concatenate(([0.0], np.cumsum(pair.excluded)))
    pooled = (included + excluded) / 2
    top = {"both": share / 2, "included": share, "excluded": 0.0}[side]
    bottom = share - top
    rising = np.concatenate(([True], np.diff(pooled) > 0))
    hit = float(np.interp(top, pooled[rising], included[rising]))
    kept = float(np.interp(1 - bottom, pooled[rising], excluded[rising]))
    return (hit + 1 - kept) / 2


def _guess_options(
    canaries: int, question: Question, bound: CountBound
) -> tuple[list[tuple[int, Side]], str]:
    planned, side = question.plan.guesses, question.plan.side
    if planned is not None:
        if planned > canaries:
            raise ValueError(f"the plan guesses on {planned} canaries, but there are only {canaries}")
        return [(planned, side or "both")], "from the plan"
    leakage = question.claimed_leakage
    if leakage is None or isinstance(question.family, ApproximateDpFamily):
        counts = sorted({min(canaries, max(2, round(share * canaries))) for share in _UNPLANNED})
        return [(count, side or "both") for count in counts], f"tried {len(counts)}, the error split"
    found = _planned(bound, question.family, leakage, canaries, question.significance, side)
    return [found], "planned on the claimed mechanism"


@lru_cache(maxsize=1024)
def _planned(
    bound: CountBound,
    family: Family,
    leakage: float,
    canaries: int,
    significance: float,
    side: Side | None,
) -> tuple[int, Side]:
    """Choose the number and side of guesses with the best bound at a usual number of right ones.

    Under subsampling a high score says more than a low one; inclusion alone is then guessed.
    """
    pair = family.pair(leakage)
    sides: tuple[Side, ...] = ("both", "included") if side is None else (side,)
    counts = sorted({min(canaries, max(2, round(share * canaries))) for share in _SHARES})
    best, plan = 0.0, (min(canaries, max(2, round(_FALLBACK * canaries))), sides[0])
    for one in sides:
        worse, previous = 0, 0.0
        for guesses in counts:
            chance = min(1.0, expected_right(pair, guesses / canaries, one) * canaries / guesses)
            # Between the bounds of the two counts around the usual one: rounded either way, plans of few
            # wrong guesses would be told too little or too much.
            usual = guesses * chance
            right = min(int(usual), guesses - 1)
            low, high = (bound(canaries, guesses, count, significance) for count in (right, right + 1))
            lower = low + (usual - right) * (high - low)
            if lower > best:
                best, plan = lower, (guesses, one)
            # The bound rises, then falls in the number of guesses; large numbers are slow to try.
            worse = worse + 1 if lower < previous else 0
            previous = max(previous, lower)
            if worse == _PATIENCE:
                break
    return plan
