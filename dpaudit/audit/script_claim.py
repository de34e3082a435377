"""The claim that a program makes, from what its libraries were asked and told."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from dpaudit import accounting
from dpaudit.audit.setting import DEFAULT_DELTA
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import DpauditError
from dpaudit.instrument.script import Accounted, ReadClaim, ScriptRun, StatedEpsilon
from dpaudit.scheme import Poisson

_LAST_STEP = 1
"""An accountant is told of a step before the optimizer makes it: one may be open when a program ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramClaim:
    """A claim in the audit's terms, with what the program claimed each number to be."""

    claim: PrivacyClaim
    """What is weighed: the claimed epsilon, against the noise and the steps that were seen."""
    sampling_rate: float | None
    noise_multiplier: float | None
    steps: int | None
    """As accounted for."""
    unamplified: bool
    """Whether the accountant assumed no sampling at all."""
    notes: tuple[str, ...]


def read_claim(run: ScriptRun, given: PrivacyClaim) -> ProgramClaim:
    """Put together what a program claims; fields that the user gives win.

    The epsilon under test is the last that the program asked for, else the one it calibrated its noise
    for. Where the accountant was told of other steps or other noise than the optimizer had, and no
    epsilon was asked for, it is that of what the accountant was told. Noise and steps of the claim
    are those that were seen, so that the epsilon of what runs meets the epsilon that was claimed.

    Args:
      run: of the program.
      given: fields that were stated by flags or a claim file.
    """
    read = run.claim
    engine = read.engines[-1] if read.engines else None
    stated = _statement(read)
    accounted = stated.accounted if stated is not None and stated.accounted else read.accounted
    rate, noise = dominant(read, accounted)
    seen_noise = _noise_seen(read)
    notes = []
    if len(accounted) > 1:
        notes.append(
            f"The accountant was told of {len(accounted)} different pairs of sampling rate and noise: only "
            "the sampling is judged, not the epsilon."
        )
        noise = seen_noise = None
    told = sum(part.steps for part in accounted) if accounted or engine else None
    epsilon, delta, steps = _promise(run, stated, told, rate, noise, seen_noise, given.delta)
    claim = PrivacyClaim(
        epsilon=epsilon,
        delta=delta,
        steps=steps,
        scheme=Poisson(rate) if rate is not None and rate < 1 else None,
        noise_multiplier=seen_noise or noise,
        clip_norm=None if engine is None else engine.clip_norm,
        clipping=None if engine is None else engine.clipping,
        num_records=None if engine is None else engine.num_records,
        accountant=read.accountant or None,
        adjacency="add_or_remove_one" if not read.is_empty else None,
        library=read.library or None,
    )
    return ProgramClaim(
        claim=_merge(claim, given),
        sampling_rate=rate,
        noise_multiplier=noise,
        steps=told,
        unamplified=rate == 1,
        notes=(*notes, *_warnings(run, stated, None if rate == 1 else told, noise, seen_noise)),
    )


def _statement(read: ReadClaim) -> StatedEpsilon | None:
    """Give the epsilon that the program asked for last."""
    return read.stated[-1] if read.stated else None


def dominant(read: ReadClaim, accounted: tuple[Accounted, ...]) -> tuple[float | None, float | None]:
    """Give sampling rate and noise that most steps were accounted with, else those that were planned."""
    if accounted:
        most = max(accounted, key=lambda part: part.steps)
        return most.sampling_rate, most.noise_multiplier
    if read.engines:
        return read.engines[-1].sampling_rate, read.engines[-1].noise_multiplier
    if read.calibrations:
        return read.calibrations[-1].sampling_rate, read.calibrations[-1].noise_multiplier
    return None, None


def _noise_seen(read: ReadClaim) -> float | None:
    """Give the noise multiplier of the private optimizer, where it was one and the same."""
    seen = {used.noise_multiplier for used in read.noise}
    return seen.pop() if len(seen) == 1 and 0 not in seen else None


def _promise(
    run: ScriptRun,
    stated: StatedEpsilon | None,
    told: int | None,
    rate: float | None,
    noise: float | None,
    seen_noise: float | None,
    wanted_delta: float | None,
) -> tuple[float | None, float | None, int | None]:
    """Give the epsilon under test, its delta, and the steps it is for."""
    read = run.claim
    if read.is_empty:
        return None, None, None
    if stated is not None:
        # Asked before the training it is for all of it; asked on the way, for what was made by then.
        upfront = stated.optimizer_steps == 0
        steps = run.steps if upfront and not _stopped(run) else stated.optimizer_steps or told
        return stated.epsilon, stated.delta, steps or run.steps
    if read.calibrations:
        plan = read.calibrations[-1]
        steps = max(plan.steps, run.steps) if _stopped(run) else run.steps
        return plan.target_epsilon, plan.target_delta, steps
    fewer = told is not None and told < run.steps - _LAST_STEP
    weaker = noise is not None and seen_noise is not None and seen_noise != noise
    if not (fewer or weaker) or rate is None or noise is None or told is None:
        return None, None, run.steps
    delta = wanted_delta or DEFAULT_DELTA
    return _epsilon_of(rate, noise, told, delta), delta, run.steps


def _epsilon_of(rate: float, noise: float, steps: int, delta: float) -> float | None:
    """Give the epsilon of what an accountant was told."""
    if steps == 0:
        return 0.0
    try:
        interval = accounting.epsilon(
            Poisson(rate), noise_multiplier=noise, steps=steps, num_records=1, delta=delta
        )
    except (DpauditError, ValueError):
        return None
    return interval.upper


def _stopped(run: ScriptRun) -> bool:
    return run.ending.how.value in ("stopped", "failed")


def _warnings(
    run: ScriptRun,
    stated: StatedEpsilon | None,
    told: int | None,
    noise: float | None,
    seen_noise: float | None,
) -> list[str]:
    """Say what does not fit; without sampling, a whole epoch may be one release (`told`: None)."""
    notes = []
    planned = stated is not None and stated.optimizer_steps == 0
    made = run.steps if stated is None or planned else stated.optimizer_steps
    if told is not None and told < made - _LAST_STEP:
        notes.append(f"ATTENTION: the accountant was told of {told} steps; the optimizer made {made}.")
    if stated is not None and not planned and stated.optimizer_steps < run.steps - _LAST_STEP:
        notes.append(
            f"The program last asked for epsilon after {stated.optimizer_steps} of {run.steps} steps: the "
            "claim is for those; the steps after them are not covered."
        )
    if noise is not None and seen_noise is not None and noise != seen_noise:
        notes.append(
            f"ATTENTION: the accountant was told of noise multiplier {noise:g}; the optimizer added "
            f"{seen_noise:g}."
        )
    return notes


def _merge(claim: PrivacyClaim, given: PrivacyClaim) -> PrivacyClaim:
    values = {field.name: getattr(given, field.name) for field in fields(PrivacyClaim)}
    stated = {name: value for name, value in values.items() if value is not None}
    if "epochs" in stated and "steps" not in stated:
        stated["steps"] = None
    return replace(claim, **stated)
