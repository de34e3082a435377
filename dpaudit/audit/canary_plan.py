"""From a canary file to the plan of its runs."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from dpaudit.audit.canary_file import CanaryFile
from dpaudit.canary.per_step import claimed_step
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import ClaimError
from dpaudit.provenance import sha256

if TYPE_CHECKING:
    from dpaudit.dpsgd.canaries import RunPlan

# Seeds are numbers that a file can hold and a person can copy.
_SEED_BITS = 32


def plan_of(file: CanaryFile, claim: PrivacyClaim) -> RunPlan:
    """Give the plan of a file's runs; a seed that is not set is drawn.

    Raises:
      ClaimError: a value is out of range.
    """
    from dpaudit.dpsgd.canaries import RunPlan

    settings = file.settings
    kinds = tuple(one for one in settings.designs if one not in ("register", "parameters"))
    own = [target.partition(":")[0] for target in (settings.train, settings.model) if ".py" in target]
    step = claimed_step(claim)
    steps = settings.steps or claim.total_steps
    if steps is None:
        raise ClaimError("neither the claim nor [canary] says how many steps", "Add steps.")
    try:
        return RunPlan(
            model=settings.model,
            data=settings.data,
            scheme=settings.scheme
            if settings.sampler != "poisson"
            else {"name": "poisson", "rate": step.rate},
            rate=step.rate,
            noise_multiplier=_given(settings.noise_multiplier, step.noise_multiplier),
            clip_norm=claim.clip_norm or 1.0,
            steps=steps,
            learning_rate=settings.learning_rate,
            optimizer=settings.optimizer,  # type: ignore[arg-type]  # checked by CanarySettings
            read=settings.read,  # type: ignore[arg-type]
            registers=settings.canaries if "register" in settings.designs else 0,
            per_tensor=settings.per_tensor if "parameters" in settings.designs else 0,
            inputs=settings.inputs if kinds else 0,
            input_kinds=kinds,  # type: ignore[arg-type]
            fault=settings.fault or None,  # type: ignore[arg-type]
            train=settings.train,
            records=settings.records or ("silent" if settings.train else "real"),  # type: ignore[arg-type]
            seed=secrets.randbits(_SEED_BITS) if settings.seed is None else settings.seed,
            sources={name: sha256(Path(name)) for name in own if Path(name).is_file()},
        )
    except ValueError as error:
        raise ClaimError(str(error)) from error


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
