"""Rank statistics of canary scores: the area under the curve, and normal scores.

Both are increasing in every included canary's score, so a mechanism whose operating curve lies below
another's has a stochastically smaller statistic. Ties are broken by a coin that never sees who was
included: a polyline operating curve is exactly what that coin gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dpaudit.canary.loss_pair import Floats
from dpaudit.scores import CanaryScores

# Seed of the tie-breaking coin: any constant will do, as long as it does not depend on the labels.
_TIE_SEED = 20230515


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Who was included, from the lowest score to the highest, ties broken by a coin."""

    included: npt.NDArray[np.bool_]
    """Shape (m,), in order of rising score."""

    @property
    def positives(self) -> int:
        """Number of included canaries."""
        return int(np.count_nonzero(self.included))

    @property
    def negatives(self) -> int:
        """Number of excluded canaries."""
        return len(self.included) - self.positives


def rank(scores: CanaryScores) -> Ranking:
    """Sort the canaries by score; equal scores in an order that is random and blind to inclusion."""
    return Ranking(scores.included[label_blind_order(scores.score)])


def label_blind_order(score: Floats) -> npt.NDArray[np.intp]:
    """Sort by rising score; tied canaries are shuffled, since their stored order may tell who is in."""
    order = np.argsort(score)
    ordered = score[order]
    if not (ordered[1:] == ordered[:-1]).any():
        return order
    shuffled = tied_places(len(score))
    return np.asarray(shuffled[np.argsort(score[shuffled], kind="stable")])


def places_in_runs(
    score: Floats, index: npt.NDArray[np.intp], sizes: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Rank each score within its own run, from 0, ties broken blind to inclusion.

    Args:
      score: of all canaries, shape (m,).
      index: run of each canary, 0..K - 1, shape (m,).
      sizes: canaries of each run, shape (K,).
    """
    order = label_blind_order(score)
    order = order[np.argsort(index[order], kind="stable")]
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return places


def tied_places(count: int) -> npt.NDArray[np.int64]:
    """Shuffle 0..count - 1 by a fixed coin that has seen neither scores nor inclusion."""
    return np.random.default_rng(_TIE_SEED).permutation(count)


def area_under_curve(ranking: Ranking) -> float:
    """Estimate the chance that an included canary scores above an excluded one, in [0, 1].

    Raises:
      ValueError: one of the two groups is empty.
    """
    positives, negatives = _sizes(ranking)
    below = np.flatnonzero(ranking.included).sum(dtype=np.float64) - positives * (positives - 1) / 2
    return float(below / (positives * negatives))


def mean_normal_score(ranking: Ranking) -> float:
    """Average the normal scores of the included canaries' ranks (van der Waerden's statistic).

    Scores are Blom's approximation of the expected normal order statistics.

    Raises:
      ValueError: one of the two groups is empty.
    """
    from scipy.special import ndtri

    _sizes(ranking)
    places = np.flatnonzero(ranking.included)
    return float(ndtri((places + 0.625) / (len(ranking.included) + 0.25)).mean())


def _sizes(ranking: Ranking) -> tuple[int, int]:
    positives, negatives = ranking.positives, ranking.negatives
    if positives == 0 or negatives == 0:
        raise ValueError(f"{positives} canaries were included and {negatives} were not; both are needed")
    return positives, negatives
