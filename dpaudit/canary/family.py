"""Families of mechanisms: the claimed kind of mechanism at every strength of its noise.

A rank statistic or a guess count says how far two score distributions are apart, not what epsilon is.
The family turns the one into the other: it is rejected, strength by strength, up to the one that
explains the scores. The bound then holds for every mechanism whose scores no attack separates better
than some member of the family would allow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from dpaudit.canary.loss_pair import Floats, LossPair, approximate_dp_pair, gaussian_pair
from dpaudit.canary.subsampled_gaussian import COARSE, FINE, subsampled_gaussian_pair
from dpaudit.claim import PrivacyClaim
from dpaudit.scheme import FixedSize, Poisson, Sequential, Shuffle

# An epsilon beyond is no privacy at all; families end there.
LARGEST_EPSILON = 60.0
_STRENGTHS = 64
# Noise multipliers are rounded up by at most 0.05 % before epsilon is computed.
_LEAKAGE_STEPS = 1 << 11


class Family(Protocol):
    """Mechanisms of one kind, ordered by leakage, a real number: more leakage, less privacy.

    Implementations are hashable, since their tables are kept.
    """

    def __hash__(self) -> int:
        """Identify the family among the kept tables."""

    @property
    def sentence(self) -> str:
        """Which mechanisms the family holds, to follow "assumes"."""

    def pair(self, leakage: float) -> LossPair:
        """Give the dominating pair of one member, in the direction included against excluded."""

    def epsilon(self, leakage: float, delta: float) -> tuple[float, float]:
        """Lower-bound the epsilon of one member: the bound and the arithmetic error inside it."""

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest leakage that the family is searched over."""


@dataclass(frozen=True, slots=True)
class GaussianFamily:
    """Gaussian mechanisms, leakage log mu, where mu = sensitivity * sqrt(steps) / noise."""

    @property
    def sentence(self) -> str:
        """Say which mechanisms these are."""
        return "that the mechanism is a Gaussian one (every record in every step), of any noise"

    @property
    def range(self) -> tuple[float, float]:
        """From mu = 0.002 (epsilon 0 at delta = 1e-3) to mu = 8 (epsilon 60 at delta = 1e-5)."""
        return math.log(0.002), math.log(8.0)

    def pair(self, leakage: float) -> LossPair:
        """Discretise N(mu, 1) against N(0, 1)."""
        return gaussian_pair(math.exp(leakage))

    def epsilon(self, leakage: float, delta: float) -> tuple[float, float]:
        """Solve delta(epsilon) = delta in closed form; the root is bracketed from below.

        References:
          Balle, Wang (2018), arXiv:1805.06530, Theorem 8.
        """
        return _gaussian_epsilon(math.exp(leakage), delta), 0.0


@dataclass(frozen=True, slots=True)
class SubsampledGaussianFamily:
    """Poisson-subsampled Gaussian steps, leakage -log(noise multiplier).

    References:
      Mironov, Talwar, Zhang (2019), arXiv:1908.10530.
    """

    rate: float
    steps: int

    @property
    def sentence(self) -> str:
        """Say which mechanisms these are."""
        return (
            f"that the mechanism is {self.steps} Gaussian steps on Poisson batches of rate {self.rate:g}, "
            "of any noise"
        )

    @property
    def range(self) -> tuple[float, float]:
        """Noise from where one run leaks mu = 0.01 to where epsilon passes the largest of interest."""
        return _noise_range(self.rate, self.steps)

    def pair(self, leakage: float) -> LossPair:
        """Compose the steps at noise multiplier exp(-leakage)."""
        return _subsampled_pair(self.rate, math.exp(-leakage), self.steps, COARSE)

    def epsilon(self, leakage: float, delta: float) -> tuple[float, float]:
        """Extrapolate from two lattices, and take off twice the remaining error.

        The lattice overstates epsilon by c / resolution^2; with four times the resolution the rest is
        a fifteenth of the difference.
        """
        # Rounding the noise up keeps the bound below, and lets repeated audits share their results.
        steps = math.floor(leakage * _LEAKAGE_STEPS)
        return _subsampled_epsilon(self.rate, self.steps, steps, delta)


@dataclass(frozen=True, slots=True)
class ApproximateDpFamily:
    """All (epsilon, delta)-DP mechanisms at one delta, leakage log epsilon: assumes no kind."""

    delta: float

    @property
    def sentence(self) -> str:
        """Say that no kind of mechanism is assumed."""
        return "nothing of the mechanism beyond (epsilon, delta)-differential privacy"

    @property
    def range(self) -> tuple[float, float]:
        """From epsilon 0.001 to the largest of interest."""
        return math.log(1e-3), math.log(LARGEST_EPSILON)

    def pair(self, leakage: float) -> LossPair:
        """Give the least private pair at epsilon = exp(leakage)."""
        return approximate_dp_pair(math.exp(leakage), self.delta)

    def epsilon(self, leakage: float, delta: float) -> tuple[float, float]:
        """Return epsilon itself.

        Raises:
          ValueError: asked for another delta than the family's.
        """
        if delta != self.delta:
            raise ValueError(f"the family was built for delta = {self.delta!r}, not {delta!r}")
        return math.exp(leakage), 0.0


def family_of(claim: PrivacyClaim | None, *, delta: float) -> Family:
    """Choose the family that a claim names; without a known one, all (epsilon, delta)-DP mechanisms.

    A claim names a family with a noise multiplier, the steps, and Poisson sampling or full batches. At
    delta = 0 no Gaussian mechanism has a finite epsilon, so that no kind is assumed there.
    """
    if claim is None or delta == 0 or claim.noise_multiplier is None or claim.total_steps is None:
        return ApproximateDpFamily(delta)
    match claim.scheme:
        case Poisson(rate=rate) if rate == 1:
            return GaussianFamily()
        case Poisson(rate=rate) if claim.adjacency != "replace_one":
            return SubsampledGaussianFamily(rate, claim.total_steps)
        case FixedSize(batch_size=size) | Shuffle(batch_size=size) | Sequential(batch_size=size) if (
            claim.num_records is not None and size >= claim.num_records
        ):
            return GaussianFamily()
    return ApproximateDpFamily(delta)


def claimed_leakage(claim: PrivacyClaim, family: Family) -> float | None:
    """Locate the claimed mechanism within its family; None where the claim does not say enough.

    Replacing a record moves the mean by two clip norms, adding or removing one by one.
    """
    match family:
        case GaussianFamily() if claim.noise_multiplier and claim.total_steps:
            moved = 2 if claim.adjacency == "replace_one" else 1
            return math.log(moved * math.sqrt(claim.total_steps) / claim.noise_multiplier)
        case SubsampledGaussianFamily() if claim.noise_multiplier:
            return -math.log(claim.noise_multiplier)
        case ApproximateDpFamily() if claim.epsilon and math.isfinite(claim.epsilon):
            return math.log(claim.epsilon)
    return None


@lru_cache(maxsize=32)
def strengths(family: Family) -> Floats:
    """Spread `_STRENGTHS` values of leakage over the family's range, evenly."""
    return np.linspace(*family.range, _STRENGTHS)


def _gaussian_epsilon(shift: float, delta: float) -> float:
    from scipy.special import log_ndtr

    def too_small(epsilon: float) -> bool:
        upper = log_ndtr(shift / 2 - epsilon / shift)
        lower = epsilon + log_ndtr(-shift / 2 - epsilon / shift)
        return float(math.exp(upper) - math.exp(lower)) > delta

    if not too_small(0.0):
        return 0.0
    # Beyond mu^2 / 2 + mu sqrt(2 log(1 / delta)) the first term alone is below delta.
    low, high = 0.0, shift**2 / 2 + shift * math.sqrt(2 * math.log(1 / delta)) + 1
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return low


@lru_cache(maxsize=1 << 12)
def _subsampled_epsilon(rate: float, steps: int, leakage_steps: int, delta: float) -> tuple[float, float]:
    noise = math.exp(-leakage_steps / _LEAKAGE_STEPS)
    coarse = _subsampled_pair(rate, noise, steps, COARSE).epsilon(delta)
    fine = _subsampled_pair(rate, noise, steps, FINE).epsilon(delta)
    error = 2 * abs(coarse - fine) / (FINE**2 / COARSE**2 - 1)
    return max(0.0, fine - error), error


@lru_cache(maxsize=64)
def _subsampled_pair(rate: float, noise: float, steps: int, resolution: int) -> LossPair:
    return subsampled_gaussian_pair(rate, noise, steps, resolution=resolution)


@lru_cache(maxsize=64)
def _noise_range(rate: float, steps: int) -> tuple[float, float]:
    """Bracket the useful noise multipliers, as leakage.

    The low end: mu ~ rate sqrt(steps) / s = 0.01, by the central limit of arXiv:1911.11607 for large s.
    The high end lowers the noise until epsilon at delta = 1e-5 passes the largest of interest.
    """
    weakest = max(1.0, 100 * rate * math.sqrt(steps))
    noise = 1.0
    while noise > 0.06 and _subsampled_pair(rate, noise, steps, COARSE).epsilon(1e-5) < LARGEST_EPSILON:
        noise *= 0.8
    return -math.log(weakest), -math.log(noise)
