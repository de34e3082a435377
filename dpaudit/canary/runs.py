"""Lower bounds from K runs, valid under any dependence between the canaries of one run.

What a canary earns for the attack, by a rule that looks at the scores alone, is bounded in expectation by
the dominating pair, however the canaries of its run influence each other: a right guess by
(1 + total variation) / 2, a quadratic score by its Bayes value. The runs' means are independent and have
that bound, so an interval for the mean over runs is all it takes.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dpaudit.canary.estimator import Answer, Question, answer_at, rejected_up_to
from dpaudit.canary.family import Family, strengths
from dpaudit.canary.loss_pair import Floats
from dpaudit.canary.quadratic_score import NOTHING_KNOWN, bayes_scores, run_scores
from dpaudit.canary.rank_null import FINE_STRENGTHS
from dpaudit.canary.rank_statistics import places_in_runs
from dpaudit.canary.thresholds import clopper_pearson_upper
from dpaudit.scores import CanaryScores

# Student's t needs a mean over runs that is nearly normal; measured violations are nominal from here.
_FEWEST_RUNS = 10
# Runs with fewer canaries than this share one threshold, learnt on a pilot of the runs.
_FEWEST_CANARIES = 20
_PILOT = 0.2
# Share of the largest bet that keeps the capital positive; above, one bad run would end the game.
_BOLDEST = 0.95


def student_bound(scores: CanaryScores, question: Question) -> Answer:
    """Bound the mean quadratic score of a run by Student's t over the runs; asymptotic in their number.

    Where the claim gives no beliefs, where a threshold was planned, and in runs of few canaries, right
    guesses are counted instead.
    """
    asymptotic = "asymptotic in the number of runs (Student's t)"
    if scores.runs < _FEWEST_RUNS:
        return answer_at(question, None, asymptotic, f"fewer than {_FEWEST_RUNS} runs: no bound is given")
    leakage, sizes = question.claimed_leakage, np.unique(scores.run, return_counts=True)[1]
    if leakage is None or question.plan.threshold is not None or sizes.min() < _FEWEST_CANARIES:
        accuracies, sizes, note = run_accuracies(scores, question)
        if len(accuracies) < _FEWEST_RUNS:
            return answer_at(question, None, note, asymptotic, f"fewer than {_FEWEST_RUNS} runs are left")
        accuracy = student_lower(accuracies, sizes, question.significance)
        return _answer(question, accuracy, accuracies, (note, asymptotic))
    payoffs, independent = run_scores(scores, question.family, leakage, question.significance)
    shown = min(independent, _student_limit(payoffs, question.significance))
    found = None
    if shown > NOTHING_KNOWN:
        members, values = bayes_scores(question.family)
        found = rejected_up_to(members, np.clip(values - shown, -1, 1), 0.0)
    return answer_at(
        question,
        found,
        f"mean quadratic score {payoffs.mean():.6f} over {len(payoffs)} runs, beliefs from the claim",
        asymptotic,
    )


def betting_bound(scores: CanaryScores, question: Question) -> Answer:
    """Bound the mean accuracy of a run by betting against each smaller mean; exact for any K."""
    accuracies, _, note = run_accuracies(scores, question)
    if len(accuracies) == 0:
        return answer_at(question, None, note, "no run is left")
    accuracy = betting_lower(accuracies, question.significance)
    return _answer(question, accuracy, accuracies, (note, "exact for any number of runs"))


def student_lower(accuracies: Floats, sizes: npt.NDArray[np.int64], significance: float) -> float:
    """Give Student's lower limit of the mean, and no more than independent guesses would allow.

    Runs that agree by chance leave no variance to estimate; the exact binomial limit of all guesses
    together, which holds for independent canaries, then caps the bound.
    """
    total = int(sizes.sum())
    wrong = total - round(float((accuracies * sizes).sum()))
    independent = 1 - float(clopper_pearson_upper(np.array([wrong]), total, significance)[0])
    return min(_student_limit(accuracies, significance), independent)


def _student_limit(means: Floats, significance: float) -> float:
    from scipy.special import stdtrit

    spread = float(means.std(ddof=1)) / math.sqrt(len(means))
    return float(means.mean()) - float(stdtrit(len(means) - 1, 1 - significance)) * spread


def betting_lower(accuracies: Floats, significance: float) -> float:
    """Give an exact lower confidence limit for the mean of independent values in [0, 1].

    Against each candidate mean a gambler bets on larger values with the growth-optimal stake of what
    was seen so far; a candidate is rejected once the capital has grown by 1 / significance.

    References:
      Waudby-Smith, Ramdas (2024), J. R. Stat. Soc. B 86, arXiv:2010.09686, Theorem 3.
    """
    candidates = np.linspace(0.5, 1.0, 4001)
    # Running mean and variance of the values before each one, with one pseudo-observation of each.
    count = np.arange(len(accuracies)) + 1
    past = np.concatenate(([0.0], np.cumsum(accuracies)[:-1]))
    mean = (0.5 + past) / count
    squares = np.concatenate(([0.0], np.cumsum((accuracies - mean) ** 2)[:-1]))
    variance = (0.25 + squares) / count
    capital = np.zeros(len(candidates))
    best = np.zeros(len(candidates))
    for value, centre, width in zip(accuracies, mean, variance, strict=True):
        edge = centre - candidates
        stake = np.clip(edge / (width + edge**2), 0.0, _BOLDEST / candidates)
        capital += np.log1p(stake * (value - candidates))
        best = np.maximum(best, capital)
    # The limit lies between the last rejected candidate and the first kept one; the mean 1 is kept.
    kept = np.flatnonzero(best < -math.log(significance))
    return float(candidates[max(0, kept[0] - 1)])


def run_accuracies(scores: CanaryScores, question: Question) -> tuple[Floats, npt.NDArray[np.int64], str]:
    """Compute the share of right guesses of each run, guesses made blind to inclusion.

    Returns:
      Accuracies (K,), canaries per run (K,), and how the guesses were made.
    """
    _, index, sizes = np.unique(scores.run, return_inverse=True, return_counts=True)
    pilot = 0
    if question.plan.threshold is not None:
        guesses, note = scores.score > question.plan.threshold, "threshold from the plan"
    elif sizes.min() >= _FEWEST_CANARIES:
        share = _guessed_share(question)
        guesses = _above_in_each_run(scores, index, sizes, share)
        note = f"the highest {share:.1%} of each run guessed included"
    else:
        # The first runs give the threshold and nothing else; the order of runs carries nothing.
        pilot = max(1, round(_PILOT * len(sizes)))
        learnt = np.sort(scores.score[index < pilot])
        threshold = float(learnt[int((1 - _guessed_share(question)) * (len(learnt) - 1))])
        guesses, note = scores.score > threshold, f"threshold from the scores of {pilot} runs, left out"
    right = np.bincount(index, weights=guesses == scores.included)
    return right[pilot:] / sizes[pilot:], sizes[pilot:], note


def _guessed_share(question: Question) -> float:
    leakage = question.claimed_leakage
    return 0.5 if leakage is None else question.family.pair(leakage).share_above_even_odds()


def _above_in_each_run(
    scores: CanaryScores, index: npt.NDArray[np.intp], sizes: npt.NDArray[np.int64], share: float
) -> npt.NDArray[np.bool_]:
    """Guess the highest share of each run, ties broken blind to inclusion."""
    first = sizes - np.round(share * sizes).astype(np.int64)
    return np.asarray(places_in_runs(scores.score, index, sizes) >= first[index])


def _answer(question: Question, accuracy: float, accuracies: Floats, notes: tuple[str, ...]) -> Answer:
    leakage, variation = total_variations(question.family)
    # A strength is rejected when even its total variation is below what the accuracy shows.
    shown = 2 * accuracy - 1
    found = None
    if shown > 0:
        found = rejected_up_to(leakage, np.clip(variation - shown, -1, 1), 0.0)
    return answer_at(
        question, found, f"mean accuracy {accuracies.mean():.4f} over {len(accuracies)} runs", *notes
    )


@lru_cache(maxsize=16)
def total_variations(family: Family) -> tuple[Floats, Floats]:
    """Tabulate the total variation of a family's members, interpolated by a monotone cubic."""
    from scipy.interpolate import PchipInterpolator

    coarse = strengths(family)
    values = [family.pair(float(value)).total_variation() for value in coarse]
    leakage = np.linspace(coarse[0], coarse[-1], FINE_STRENGTHS)
    return leakage, np.asarray(PchipInterpolator(coarse, values)(leakage))
