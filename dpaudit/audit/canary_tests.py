"""Every test of the claimed mechanism that recorded runs allow, decided together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dpaudit.canary import StepObservations, claim_gate, per_step_tests
from dpaudit.canary.undecided import undecided_test
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import DpauditError
from dpaudit.findings import HypothesisTest

if TYPE_CHECKING:
    from dpaudit.dpsgd.canaries import RecordedRun

_SCALE, _SENSITIVITY, _ORDINARY = "DPA302", "DPA307", "DPA311"
# Single precision and the trace that a planted weight leaves in its bias add up to less than this.
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Releases:
    """What all runs of an audit released."""

    observations: StepObservations
    """At the canaries' coordinates; the canaries of all runs side by side."""
    residuals: npt.NDArray[np.float64]
    """Along the ordinary records' clipped sums, in clip norms; nan where there was none."""
    clipped_most: float
    """Largest contribution without noise, in clip norms; nan: not measured."""


def releases_of(runs: Sequence[RecordedRun]) -> Releases:
    """Put the runs of one audit, which have equal tensors and steps, side by side.

    Raises:
      DpauditError: every canary was included, so that noise is nowhere seen alone.
    """
    included = np.concatenate([run.included for run in runs])
    if included.all():
        raise DpauditError(
            f"coins included every one of the {len(included)} canaries; noise is measured at the others",
            "Ask for more canaries.",
        )
    return Releases(
        observations=StepObservations(
            value=np.concatenate([run.value for run in runs], axis=1, dtype=np.float64),
            participated=np.concatenate([run.participated for run in runs], axis=1),
            included=included,
            tensor=np.concatenate([run.tensor for run in runs]),
        ),
        residuals=np.concatenate([run.residuals for run in runs]),
        clipped_most=max(run.clipped_most for run in runs),
    )


def mechanism_tests(releases: Releases, claim: PrivacyClaim) -> tuple[HypothesisTest, ...]:
    """Test the claim on released updates; undecided, rules DPA302 to DPA309 and DPA311.

    Raises:
      ClaimError: the claim does not name the mechanism.
    """
    noise = claim.noise_multiplier or math.nan
    found = [*per_step_tests(releases.observations, claim)]
    if not math.isnan(releases.clipped_most):
        found.append(_clip_without_noise(releases.clipped_most))
    residuals = releases.residuals[~np.isnan(releases.residuals)]
    if len(residuals):
        found.append(_ordinary_records(residuals, noise))
    return tuple(found)


def costs_privacy(
    tests: Sequence[HypothesisTest], releases: Releases, claim: PrivacyClaim, *, significance: float
) -> bool:
    """Say whether a rejected test speaks of less privacy than was claimed.

    Noise that is too large fails every test that holds it against the claimed scale, and not only that of
    the scale. It is therefore measured, in each tensor, and divided out, the signal with it; what then still
    fails is no matter of too much noise.

    Args:
      tests: decided ones.
      releases: what they are of.
      claim: likewise.
      significance: family-wise, of the second look; half of it for noise that is too small somewhere,
        half for the other tests.
    """
    rejected = {test.rule for test in tests if test.rejected}
    noise = claim.noise_multiplier
    if not rejected:
        return False
    if _SCALE not in rejected or noise is None:
        return True
    observations = releases.observations
    if too_quiet(observations, noise, significance=significance / 2):
        return True
    again = mechanism_tests(_noise_divided_out(releases, noise), claim)
    if rejected - {test.rule for test in again}:
        return True
    decided = claim_gate(again, significance=significance / 2)
    return any(test.rejected and test.rule != _SCALE for test in decided.tests)


def noise_ratios(observations: StepObservations, noise_multiplier: float) -> npt.NDArray[np.float64]:
    """Give the noise of each tensor over the claimed one, shape (largest label + 1,); 1 where unseen."""
    column, absent = np.asarray(observations.tensor), ~observations.participated
    squares = np.square(observations.value).sum(axis=0, where=absent)
    totals, counts = (np.bincount(column, weights=part) for part in (squares, absent.sum(axis=0)))
    ratios = np.sqrt(totals / np.maximum(counts, 1)) / noise_multiplier
    return np.asarray(np.where(counts > 0, ratios, 1.0))


def too_quiet(observations: StepObservations, noise_multiplier: float, *, significance: float) -> bool:
    """Test whether any tensor has less noise than was claimed; exact, corrected for their number."""
    from scipy.special import gammainc

    column = np.asarray(observations.tensor)
    counts = np.bincount(column, weights=(~observations.participated).sum(axis=0))
    totals = np.square(noise_ratios(observations, noise_multiplier)) * counts
    seen = counts > 0
    tails = gammainc(counts[seen] / 2, totals[seen] / 2)
    return bool(seen.any() and tails.min() * seen.sum() <= significance)


def _noise_divided_out(releases: Releases, noise_multiplier: float) -> Releases:
    observations = releases.observations
    ratios = np.maximum(1.0, noise_ratios(observations, noise_multiplier))
    rescaled = replace(observations, value=observations.value / ratios[np.asarray(observations.tensor)])
    return replace(releases, observations=rescaled, residuals=releases.residuals / ratios.max())


def _clip_without_noise(largest: float) -> HypothesisTest:
    excess = largest - 1
    return undecided_test(
        _SENSITIVITY,
        "sensitivity without noise",
        "no record adds more than one clip norm, whatever its gradient's norm",
        statistic=largest,
        # Nothing random is in it: one contribution above the clip norm is proof.
        p_value=0.0 if excess > _TOLERANCE else 1.0,
        effect=excess if math.isfinite(excess) else math.inf,
        effect_unit="clip norms above one, at the largest",
        detectable_effect=_TOLERANCE,
    )


def _ordinary_records(residuals: npt.NDArray[np.float64], noise_multiplier: float) -> HypothesisTest:
    """Test that nothing of the ordinary records is released beyond their clipped sum.

    Given the step before, the residual along that sum is one sample of the noise, so under the claim the
    standardised residuals are exactly independent and normal.
    """
    from scipy.special import ndtr, ndtri

    count = len(residuals)
    mean = float(residuals.mean())
    reach = float(-ndtri(0.05) + ndtri(0.8))
    return undecided_test(
        _ORDINARY,
        "ordinary records",
        "updates hold no more of ordinary records than the sum of their clipped gradients",
        statistic=mean,
        p_value=float(ndtr(-mean * math.sqrt(count) / noise_multiplier)),
        effect=mean,
        effect_unit="clip norms along the clipped sum, on average",
        detectable_effect=reach * noise_multiplier / math.sqrt(count),
    )
