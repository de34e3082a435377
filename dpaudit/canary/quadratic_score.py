"""The quadratic score of a run's beliefs: what runs show of inclusion, canary by canary.

An attack that states its belief p in each canary's inclusion b earns 1 - (b - p)^2. Whatever belief it
states, a canary earns on average no more than the Bayes value of the dominating pair (Blackwell's order
of experiments), and this holds for every canary alone, however those of its run influence each other. So
the mean over a run is bounded in expectation without any independence. Unlike a count of right guesses,
which stakes as much on a doubtful canary as on a plain one, the score loses nothing to a rank statistic:
its asymptotic error per canary is that of normal scores, 0.8 of that of a count at epsilon 1.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dpaudit.canary.family import Family, strengths
from dpaudit.canary.loss_pair import Floats, LossPair
from dpaudit.canary.rank_null import FINE_STRENGTHS
from dpaudit.canary.rank_statistics import places_in_runs
from dpaudit.scores import CanaryScores

# Score of the belief 1/2 about a fair coin, whatever comes up.
NOTHING_KNOWN = 0.75


def run_scores(
    scores: CanaryScores, family: Family, leakage: float, significance: float
) -> tuple[Floats, float]:
    """Score the beliefs about each run's canaries, stated by their ranks within the run.

    Returns:
      Mean quadratic score of each run, shape (K,); and a normal lower limit of their mean that would hold
      if all canaries were independent, one more canary being as bad a surprise as the beliefs allow. Runs
      that agree by chance leave no variance to estimate; the second caps what is inferred from the first.
    """
    from scipy.special import ndtri

    _, index, sizes = np.unique(scores.run, return_inverse=True, return_counts=True)
    places = places_in_runs(scores.score, index, sizes)
    beliefs = np.empty(scores.canaries)
    for size in np.unique(sizes):
        within = sizes[index] == size
        beliefs[within] = ranked_beliefs(family, leakage, int(size))[places[within]]
    payoffs = 1 - np.square(scores.included - beliefs)
    means = np.bincount(index, weights=payoffs) / sizes
    # The part of a payoff that depends on the coin: +-(2 p - 1) / 2.
    leaning = 2 * beliefs - 1
    earned = np.append(np.where(scores.included, leaning, -leaning) / 2, -np.abs(leaning).max() / 2)
    surprise = (earned[:-1].mean() - earned.mean()) - float(ndtri(significance)) * float(
        earned.std(ddof=1)
    ) / np.sqrt(len(earned))
    return means, float(payoffs.mean() - surprise)


@lru_cache(maxsize=8)
def ranked_beliefs(family: Family, leakage: float, canaries: int) -> Floats:
    """Give the chance of inclusion by rank under one member, from the lowest score to the highest.

    Ranks come from the scores of a run alone, so beliefs by rank are a function of what was released.
    Any beliefs give a valid bound; those of the true mechanism give the tightest.

    Args:
      family: of the claim.
      leakage: of the claimed member.
      canaries: m, of one run.

    Returns:
      Beliefs in [0, 1], shape (m,), with mean 1/2.
    """
    pair = family.pair(leakage)
    included = np.concatenate(([0.0], np.cumsum(pair.included[::-1])))
    excluded = np.concatenate(([0.0], np.cumsum(pair.excluded[::-1])))
    pooled = (included + excluded) / (included[-1] + excluded[-1])
    rising = np.concatenate(([True], np.diff(pooled) > 0))
    below = np.interp(np.arange(canaries + 1) / canaries, pooled[rising], included[rising])
    beliefs = np.clip(np.diff(below) * canaries / 2, 0.0, 1.0)
    beliefs.setflags(write=False)
    return beliefs


def bayes_score(pair: LossPair) -> float:
    """Compute the largest expected quadratic score of a fair-coin canary: 1 - E[p (1 - p)], from 3/4 to 1."""
    total = pair.included + pair.excluded
    seen = total > 0
    return 1 - 0.5 * float((pair.included[seen] * pair.excluded[seen] / total[seen]).sum())


@lru_cache(maxsize=16)
def bayes_scores(family: Family) -> tuple[Floats, Floats]:
    """Tabulate the Bayes score of a family's members, interpolated by a monotone cubic."""
    from scipy.interpolate import PchipInterpolator

    coarse = strengths(family)
    # The gain over knowing nothing spans many orders of magnitude; its logarithm is smooth.
    gains = [max(bayes_score(family.pair(float(value))) - NOTHING_KNOWN, 1e-18) for value in coarse]
    leakage = np.linspace(coarse[0], coarse[-1], FINE_STRENGTHS)
    return leakage, NOTHING_KNOWN + np.exp(np.asarray(PchipInterpolator(coarse, np.log(gains))(leakage)))
