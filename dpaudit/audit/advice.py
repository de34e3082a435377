"""How to put right what an audit found."""

from __future__ import annotations

from dpaudit import accounting
from dpaudit.audit.epsilons import bracket
from dpaudit.audit.keeping import keep_sampling
from dpaudit.audit.rules import RULES
from dpaudit.audit.setting import PASSES, Setting
from dpaudit.epochs import steps_of_epochs
from dpaudit.errors import DpauditError
from dpaudit.evidence import Evidence
from dpaudit.findings import ObservedScheme
from dpaudit.interval import format_upper
from dpaudit.scheme import (
    BallsInBins,
    BlockShuffle,
    BufferShuffle,
    FixedSize,
    Poisson,
    ReplayedPoisson,
    SamplingScheme,
    Sequential,
    Shuffle,
    TruncatedPoisson,
    WeightedPoisson,
)

# Rules whose own way out says more than the general one, in order of precedence.
_TELLING = ("DPA106", "DPA113", "DPA118", "DPA107", "DPA102")


def advise(claimed: SamplingScheme, evidence: Evidence, setting: Setting) -> tuple[str, ...]:
    """Say how to make sampling and claim agree; empty where nothing contradicts the claim."""
    observed = evidence.observed
    if observed is None or not observed.contradicts_claim:
        return ()
    offers = (
        _change_sampling(observed),
        _keep_epochs(observed.scheme, setting),
        _keep_sampling(claimed, evidence, setting),
    )
    return tuple(offer for offer in offers if offer)


def _change_sampling(observed: ObservedScheme) -> str:
    match observed.scheme:
        case Shuffle() | Sequential() | BufferShuffle() | BlockShuffle() | FixedSize():
            return (
                "Draw Poisson batches: with Opacus, iterate the loader that make_private returns "
                "(poisson_sampling=True); elsewhere, include every record in every step with "
                "probability q, independently, and keep the empty batches."
            )
        case TruncatedPoisson():
            return (
                "Do not cut large batches: split them into micro-batches (Opacus' BatchMemoryManager, "
                "masked batches of a fixed physical size), or account for the cut."
            )
        case Poisson(rate=rate):
            return f"Account for the rate that runs: q = {rate:.6g}, with q = expected batch size / N."
        case WeightedPoisson():
            return "Account for the record that is drawn most often, not for the mean rate."
        case ReplayedPoisson():
            return "Seed the sampler once for the whole run, not anew in every epoch."
    rejected = {test.rule for test in observed.rejections}
    telling = next((RULES[rule].fix for rule in _TELLING if rule in rejected), "")
    return telling or (
        "Make every record join every step independently, with the probability that is accounted for."
    )


def _keep_epochs(scheme: SamplingScheme, setting: Setting) -> str:
    """Offer balls-and-bins to who must keep epochs: same loader shape, epsilon at most Poisson's."""
    if not isinstance(scheme, Shuffle | Sequential):
        return ""
    bins = steps_of_epochs(scheme, 1, setting.num_records) or 1
    interval, _ = bracket(BallsInBins(bins), setting)
    if interval is None:
        return ""
    return (
        f"Or keep epochs and throw each record into one of {bins} steps at random, independently of the "
        f"others (balls-in-bins): epsilon is then at most {format_upper(interval.upper)}."
    )


def _keep_sampling(claimed: SamplingScheme, evidence: Evidence, setting: Setting) -> str:
    """Name the noise with which what runs is proved to keep the claim; "" where none would do."""
    target, _ = bracket(claimed, setting)
    observed = evidence.observed
    if target is None or observed is None or not isinstance(observed.scheme, (*PASSES, FixedSize)):
        return ""
    if evidence.open_intervals or evidence.observed_interval is None:
        return ""
    try:
        sigma = accounting.calibrate(
            observed.scheme,
            target_epsilon=target.upper,
            steps=setting.steps_of(observed.scheme),
            num_records=setting.num_records,
            delta=setting.delta,
            adjacency=setting.adjacency,
        )
    except (DpauditError, ValueError):
        return ""
    if sigma <= setting.noise_multiplier or _repeats(evidence):
        return ""
    return keep_sampling(observed.scheme, noise_needed=sigma, epsilon=target.upper)


def _repeats(evidence: Evidence) -> bool:
    """Tell whether repeated records make the plain scheme's calibration too small."""
    interval = evidence.observed_interval
    return interval is not None and "repeats" in interval.method
