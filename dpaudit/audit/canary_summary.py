"""Scores and noise in summary: what a report draws, and too little to name a canary."""

from __future__ import annotations

import numpy as np

from dpaudit.canary import roc_curve
from dpaudit.canary.family import claimed_leakage, family_of
from dpaudit.canary.loss_pair import Floats
from dpaudit.canary.observations import StepObservations
from dpaudit.canary_findings import MechanismRow, ScoreSummary, ThreatModel
from dpaudit.claim import PrivacyClaim
from dpaudit.scores import CanaryScores

_BINS = 40
_POINTS = 120


def summarise_scores(
    scores: CanaryScores, claim: PrivacyClaim, *, delta: float, threat_model: ThreatModel
) -> ScoreSummary | None:
    """Reduce scores to two histograms and a curve; None where one of the groups is empty."""
    if scores.included.all() or not scores.included.any():
        return None
    finite = scores.score[np.isfinite(scores.score)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
    inside = np.clip(scores.score, edges[0], edges[-1])
    curve = roc_curve(scores)
    thin = curve.thinned(_POINTS)
    return ScoreSummary(
        attack=scores.attack,
        threat_model=threat_model,
        bin_edges=tuple(float(edge) for edge in edges),
        included=_counts(inside[scores.included], edges),
        excluded=_counts(inside[~scores.included], edges),
        roc=tuple(
            (float(x), float(y))
            for x, y in zip(thin.false_positive_rate, thin.true_positive_rate, strict=True)
        ),
        claimed_curve=_claimed_curve(claim, delta),
        area=curve.area,
    )


def _counts(values: Floats, edges: Floats) -> tuple[int, ...]:
    return tuple(int(count) for count in np.histogram(values, bins=edges)[0])


def _claimed_curve(claim: PrivacyClaim, delta: float) -> tuple[tuple[float, float], ...]:
    """Give the operating curve of the best attack on the claimed mechanism, thinned out."""
    family = family_of(claim, delta=delta)
    leakage = claimed_leakage(claim, family)
    if leakage is None:
        return ()
    pair = family.pair(leakage)
    level = np.concatenate(([0.0], np.cumsum(pair.excluded)))
    power = np.concatenate(([0.0], np.cumsum(pair.included)))
    # Even in both axes together, so that steep and flat parts are both followed.
    wanted = np.linspace(0, 2, _POINTS)
    places = np.unique(np.clip(np.searchsorted(level + power, wanted), 0, len(level) - 1))
    return tuple((float(min(1.0, level[i])), float(min(1.0, power[i]))) for i in places)


def mechanism_rows(
    observations: StepObservations, tensors: tuple[str, ...], noise_multiplier: float, *, error: float
) -> tuple[MechanismRow, ...]:
    """Measure noise and sensitivity in every parameter tensor.

    Limits hold for the noise of all tensors together with probability 1 - error, and likewise for the
    sensitivities, so that none of a true claim stands out by chance.
    """
    watched = np.unique(np.asarray(observations.tensor))
    confidence = 1 - error / max(1, len(watched))
    rows = []
    for index, name in enumerate(tensors):
        here = np.asarray(observations.tensor) == index
        present = observations.participated[:, here]
        values = observations.value[:, here]
        noise, signal = values[~present], values[present]
        if len(noise):
            rows.append(_row(name, noise, signal, noise_multiplier, confidence))
    return tuple(rows)


def _row(
    name: str,
    noise: Floats,
    signal: Floats,
    noise_multiplier: float,
    confidence: float,
) -> MechanismRow:
    from scipy.special import gammaincinv, ndtri

    count, total = len(noise), float(np.square(noise).sum())
    low, high = (2 * float(gammaincinv(count / 2, level)) for level in _two_sided(confidence))
    deviation = float(np.sqrt(total / count))
    half = -float(ndtri((1 - confidence) / 2)) * deviation / np.sqrt(max(1, len(signal)))
    mean = float(signal.mean()) if len(signal) else None
    return MechanismRow(
        tensor=name,
        observations=count,
        noise_ratio=deviation / noise_multiplier,
        noise_low=float(np.sqrt(total / low)) / noise_multiplier,
        noise_high=float(np.sqrt(total / high)) / noise_multiplier if high > 0 else float("inf"),
        sensitivity=mean,
        sensitivity_low=None if mean is None else mean - float(half),
        sensitivity_high=None if mean is None else mean + float(half),
        confidence=confidence,
    )


def _two_sided(confidence: float) -> tuple[float, float]:
    return (1 + confidence) / 2, (1 - confidence) / 2
