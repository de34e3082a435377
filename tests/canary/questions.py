"""How the tests ask an estimator; shared by them."""

from dpaudit.canary import ESTIMATORS
from dpaudit.scores import CanaryScores

from .mechanisms import DELTA, Gaussian

CLAIM = Gaussian(0.9).claim
NAMES = list(ESTIMATORS)


def bound(name, scores, *, delta=DELTA, confidence=0.95, claim=CLAIM, plan=None):
    return ESTIMATORS[name](scores, delta=delta, confidence=confidence, claim=claim, plan=plan)


def scores(included, score, run=None):
    if run is None:
        return CanaryScores(included=included, score=score)
    return CanaryScores(included=included, score=score, run=run)
