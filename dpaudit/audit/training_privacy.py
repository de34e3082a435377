"""What a private training promises: scheme, noise and epsilon, before the first step and after any."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dpaudit import accounting
from dpaudit._version import __version__
from dpaudit.audit.sampling import sampling_rate
from dpaudit.claim import PrivacyClaim
from dpaudit.dpsgd.samplers import AUDIT_ONLY
from dpaudit.errors import ClaimError, DpauditError
from dpaudit.interval import EpsilonInterval, format_upper
from dpaudit.scheme import Adjacency, SamplingScheme
from dpaudit.training_file import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivacyPlan:
    """The mechanism of a training, as far as privacy depends on it."""

    scheme: SamplingScheme
    num_records: int
    steps: int
    delta: float
    adjacency: Adjacency
    noise_multiplier: float
    target_epsilon: float | None
    expected_batch_size: float
    notes: tuple[str, ...]

    def epsilon_after(self, steps: int) -> EpsilonInterval:
        """Bracket the epsilon of so many steps under this scheme; infinite without noise."""
        return _epsilon(
            self.scheme, self.noise_multiplier, steps, self.num_records, self.delta, self.adjacency
        )


def plan_privacy(settings: TrainingSettings, num_records: int) -> PrivacyPlan:
    """Settle scheme, noise and normalisation of a training.

    Args:
      settings: of the training file.
      num_records: N, of the training set.

    Raises:
      DpauditError: the scheme is wrong, or for audits only and the file does not say so; what must not
        depend on N would; no theorem covers the scheme under the adjacency; no noise reaches the target, or
        one step exceeds it.
    """
    scheme = _scheme(settings.scheme, num_records)
    notes = []
    if isinstance(scheme, AUDIT_ONLY):
        if not settings.for_audit:
            raise DpauditError(
                f"{scheme.name} sampling is for audits only: it hides far less than Poisson batches",
                "Use poisson or balls_in_bins; or say for_audit = true.",
            )
        notes.append(
            f"For an audit only: {scheme.name} sampling. The epsilon is what this sampling deserves."
        )
    if settings.adjacency != "add_or_remove_one" and settings.delta * num_records >= 1:
        notes.append(
            f"delta {settings.delta:g} is not below 1/{num_records:,}: to publish one record would pass."
        )
    rate = sampling_rate(scheme, num_records)
    expected = settings.expected_batch_size
    if settings.adjacency == "add_or_remove_one" and (expected is None or "batch_size" in settings.scheme):
        raise DpauditError(
            "under add_or_remove_one the number of records is secret, and the sums would be divided by a "
            "multiple of it",
            "Give a rate and expected_batch_size; or use zero_out, which takes the number as known.",
        )
    if expected is None:
        expected = (rate or 1.0) * num_records
    sigma = settings.noise_multiplier
    if sigma == 0 and not settings.for_audit:
        raise DpauditError("noise_multiplier = 0 gives no privacy", "Say for_audit = true to train without.")
    if sigma is None:
        sigma = _calibrate(scheme, settings, num_records)
        notes.append(f"Noise multiplier {sigma:.6g} calibrated for {settings.steps} steps.")
    plan = PrivacyPlan(
        scheme=scheme,
        num_records=num_records,
        steps=settings.steps,
        delta=settings.delta,
        adjacency=settings.adjacency,
        noise_multiplier=float(sigma),
        target_epsilon=settings.target_epsilon,
        expected_batch_size=float(expected),
        notes=tuple(notes),
    )
    target = settings.target_epsilon
    if target is not None and plan.epsilon_after(1).upper > target:
        raise DpauditError(
            f"one step spends epsilon {format_upper(plan.epsilon_after(1).upper)}, above target_epsilon "
            f"{target:g}",
            "Give more noise, or none: then it is calibrated for the target.",
        )
    return plan


def state_claim(
    plan: PrivacyPlan, settings: TrainingSettings, steps: int, sensitivity: float
) -> PrivacyClaim:
    """State what `steps` steps of a plan guarantee, in the fields of a claim.

    Under add_or_remove_one the number of records is left out: it is what that adjacency keeps secret.

    Args:
      plan: of the training.
      settings: likewise.
      steps: taken, at least 1.
      sensitivity: largest norm that one record added to a sum.
    """
    spent = plan.epsilon_after(steps)
    noise = "the operating system's cryptographic generator"
    if not settings.secure_noise:
        how = "from a secret state" if settings.seed is None else "seeded: secret only if the seed is"
        noise = f"xoshiro and PyTorch generators, {how}"
    return PrivacyClaim(
        epsilon=spent.upper,
        delta=plan.delta,
        adjacency=plan.adjacency,
        unit="record",
        scheme=plan.scheme,
        noise_multiplier=plan.noise_multiplier or None,
        clip_norm=sensitivity,
        steps=steps,
        num_records=None if plan.adjacency == "add_or_remove_one" else plan.num_records,
        accountant=f"dpaudit {__version__}, {spent.method}",
        clipping=settings.groups if isinstance(settings.groups, str) else "by group",
        released="all_iterates",
        data_accesses="training alone",
        secret_sample=True,
        noise_generator=noise,
        floating_point="float32 or better, no mitigation of arXiv:2207.13793",
        trust_model="central",
        library=f"dpaudit {__version__}",
    )


def _scheme(table: Mapping[str, Any], num_records: int) -> SamplingScheme:
    size = table.get("batch_size")
    if isinstance(size, int) and size > num_records:
        raise DpauditError(f"[training] scheme: batch_size = {size} is more than there are: {num_records}")
    try:
        scheme = PrivacyClaim.from_table({"scheme": table, "num_records": num_records}).scheme
    except ClaimError as error:
        why = error.message.removeprefix("the claimed scheme is wrong: ")
        raise DpauditError(f"[training] scheme: {why}", error.hint) from error
    if scheme is None:
        raise DpauditError("[training] lacks 'scheme'")
    return scheme


def _calibrate(scheme: SamplingScheme, settings: TrainingSettings, num_records: int) -> float:
    if settings.target_epsilon is None:
        raise DpauditError("[training] needs noise_multiplier or target_epsilon")
    return accounting.calibrate(
        scheme,
        target_epsilon=settings.target_epsilon,
        delta=settings.delta,
        steps=settings.steps,
        num_records=num_records,
        adjacency=settings.adjacency,
    )


@lru_cache(maxsize=256)
def _epsilon(
    scheme: SamplingScheme, sigma: float, steps: int, num_records: int, delta: float, adjacency: Adjacency
) -> EpsilonInterval:
    if sigma == 0:
        return EpsilonInterval(
            lower=math.inf, upper=math.inf, delta=delta, adjacency=adjacency, scheme=scheme, method="no noise"
        )
    return accounting.epsilon(
        scheme, noise_multiplier=sigma, steps=steps, num_records=num_records, delta=delta, adjacency=adjacency
    )
