"""What a canary audit would have shown, and how many steps more would show the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from dpaudit.canary.observations import StepObservations
from dpaudit.findings import Alternative

_ENOUGH = 0.9
_MOST_STEPS = 10_000_000
# Below this many coordinates two equal noise vectors may pass for alike by chance.
_FEWEST_COORDINATES = 20


def alternatives(
    observations: StepObservations,
    noise_multiplier: float,
    *,
    significance: float,
    tests: int,
    unwatched: Sequence[str] = (),
) -> tuple[Alternative, ...]:
    """Compute the power of the per-step tests against deviations of interest.

    Each test is sure to get `significance / tests` of the family-wise error (Bonferroni). Laws are exact,
    but for numbers of observations, which are scaled with the steps.

    Args:
      observations: what was seen.
      noise_multiplier: claimed.
      significance: family-wise.
      tests: decided together.
      unwatched: parameter tensors in which nothing was observed.
    """
    level = significance / tests
    column = np.asarray(observations.tensor)
    counts = np.bincount(column, weights=(~observations.participated).sum(axis=0))
    counts = counts[counts > 0]
    tensors = len(counts)
    present = int(np.count_nonzero(observations.participated))
    steps = observations.steps

    def quieter(ratio: float, seen: float) -> Callable[[int], float]:
        return lambda more: _quiet_power(ratio, seen * more / steps, level / tensors)

    def clipped(excess: float) -> Callable[[int], float]:
        return lambda more: _mean_power(excess / noise_multiplier, present * more / steps, level / 2)

    everywhere, anywhere = float(counts.max()), float(counts.min())
    found = [
        _alternative("noise 50 % too small", quieter(0.5, everywhere), steps, of_interest=True),
        _alternative("noise 10 % too small", quieter(0.9, everywhere), steps, of_interest=True),
        _alternative("noise 1 % too small", quieter(0.99, everywhere), steps, of_interest=False),
        _alternative(
            "noise missing on any one of the watched parameter tensors",
            quieter(0.0, anywhere),
            steps,
            of_interest=True,
        ),
        _alternative(
            "noise 50 % too small on any one of them", quieter(0.5, anywhere), steps, of_interest=False
        ),
        _alternative("a clip norm twice as large", clipped(1.0), steps, of_interest=True),
        _alternative("a clip norm 10 % too large", clipped(0.1), steps, of_interest=False),
    ]
    alone = int(np.count_nonzero(~observations.included))
    seen = alone >= _FEWEST_COORDINATES
    found.append(
        Alternative(
            name="the same noise in every step",
            power=float(seen and steps > 1),
            steps_needed=2 if seen else None,
            of_interest=True,
        )
    )
    if unwatched:
        name = f"noise missing on {', '.join(unwatched)}, where nothing was watched,"
        found.append(Alternative(name=name, power=0.0, steps_needed=None, of_interest=True))
    return tuple(found)


def _alternative(name: str, power: Callable[[int], float], steps: int, *, of_interest: bool) -> Alternative:
    needed: int | None = 1
    while needed is not None and power(needed) < _ENOUGH:
        needed = needed + max(1, needed // 8) if needed < _MOST_STEPS else None
    return Alternative(name=name, power=power(steps), steps_needed=needed, of_interest=of_interest)


def _quiet_power(ratio: float, seen: float, level: float) -> float:
    """Power of the two-sided chi-squared test of the noise scale, its lower tail."""
    from scipy.special import gammainc, gammaincinv

    if seen < 1:
        return 0.0
    critical = float(gammaincinv(seen / 2, level / 2))
    return 1.0 if ratio == 0 else float(gammainc(seen / 2, min(critical / ratio**2, 1e300)))


def _mean_power(shift: float, seen: float, level: float) -> float:
    """Power of a one-sided normal test of a mean."""
    from scipy.special import ndtr, ndtri

    return float(ndtr(shift * math.sqrt(seen) + ndtri(level))) if seen > 0 else 0.0
