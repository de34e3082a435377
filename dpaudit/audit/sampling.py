"""Audit the sampling behind a claim: test the trace, compute both epsilons, decide."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dpaudit.audit.advice import advise
from dpaudit.audit.curves import FIGURE_SECONDS, claimed_point, draw_series, observed_point
from dpaudit.audit.epsilons import bracket, bracket_seen, cover
from dpaudit.audit.fields import check_fields
from dpaudit.audit.setting import PASSES, Setting, settle
from dpaudit.audit.summary import summarise
from dpaudit.audit_report import AuditReport
from dpaudit.claim import PrivacyClaim
from dpaudit.epochs import steps_of_epochs
from dpaudit.evidence import Evidence
from dpaudit.findings import ObservedScheme
from dpaudit.provenance import Provenance
from dpaudit.sampling import check_sampling
from dpaudit.scheme import (
    BallsInBins,
    BlockShuffle,
    BMinSepPoisson,
    BufferShuffle,
    CyclicPoisson,
    FixedSize,
    Poisson,
    SamplingScheme,
    Sequential,
    Shuffle,
    Unrecognised,
    WeightedPoisson,
)
from dpaudit.trace import SamplingTrace
from dpaudit.verdict import Outcome, decide


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is audited, for the head of the report."""

    title: str
    target: str
    notes: tuple[str, ...] = ()
    """How the trace was recorded, and what was assumed on the way."""


def audit_sampling(
    trace: SamplingTrace,
    claim: PrivacyClaim,
    *,
    subject: Subject,
    provenance: Provenance,
    assumed_rate: float | None = None,
    significance: float = 1e-3,
    figure_seconds: float = FIGURE_SECONDS,
) -> AuditReport:
    """Test whether the trace fits the claimed sampling and compare the two epsilons.

    Args:
      trace: what was seen, one row per optimizer step.
      claim: any field may be missing; without a scheme, Poisson sampling is assumed.
      subject: title, target and notes for the report.
      provenance: of this run.
      assumed_rate: sampling rate in (0, 1] where the claim has none; None: the observed rate.
      significance: family-wise error of the sampling tests, in (0, 0.5].
      figure_seconds: processor time that the curves of the report may take; 0 leaves them out.

    Returns:
      The report. Epsilons bear on the verdict only where noise multiplier and steps (or epochs)
      were claimed; else they are shown as assumed.
    """
    claimed, notes = _claimed_scheme(claim, trace, assumed_rate)
    rate = sampling_rate(claimed, trace.num_records) or _observed_rate(trace)
    observed = check_sampling(trace, sampling_rate=rate, significance=significance, claimed_scheme=claimed)
    setting, more = settle(
        claim, claimed, observed.compatible, num_records=_drawn(trace, observed), steps=trace.steps
    )
    evidence, gaps = _weigh(claimed, observed, setting, trace, significance)
    assumed = bool({"noise_multiplier", "steps"} & set(setting.assumed))
    decisive = Evidence(observed=observed) if assumed else evidence
    verdict = decide(replace(claim, epsilon=None) if assumed else claim, decisive)
    runs = observed_point(observed.compatible, trace, significance) if observed.contradicts_claim else None
    curves = draw_series(evidence, setting, claimed_point(claimed), runs, figure_seconds)
    return AuditReport(
        kind="sampler",
        title=subject.title,
        target=subject.target,
        claim=claim,
        evidence=evidence,
        assumed=assumed,
        verdict=verdict,
        fields=check_fields(claim, claimed, evidence, setting, trace.num_records, curves),
        advice=() if verdict.outcome is Outcome.CONSISTENT else advise(claimed, evidence, setting),
        summary=summarise(trace, _epoch(observed, claimed, rate)),
        provenance=provenance,
        notes=(*subject.notes, *notes, *more, *gaps),
        curves=curves,
    )


def sampling_rate(scheme: SamplingScheme, num_records: int) -> float | None:
    """Give the share of the records that an average step draws; None where the scheme has none."""
    match scheme:
        case (
            Shuffle(batch_size=size)
            | Sequential(batch_size=size)
            | FixedSize(batch_size=size)
            | BufferShuffle(batch_size=size)
            | BlockShuffle(batch_size=size)
        ):
            return min(1.0, size / num_records)
        case BallsInBins(bins=bins):
            return 1 / bins
        case CyclicPoisson(rate=rate, period=period):
            return rate / period
        case WeightedPoisson(rates=rates):
            return sum(rates) / len(rates)
        case BMinSepPoisson(rate=rate, separation=separation):
            return 1 / (separation - 1 + 1 / rate)  # one stay in, then separation - 1 steps out
        case Unrecognised():
            return None
    return scheme.rate


def _epoch(observed: ObservedScheme, claimed: SamplingScheme, rate: float) -> int:
    """Count the steps after which a record is expected to return: of what runs, if that has epochs."""
    own = observed.scheme if isinstance(observed.scheme, PASSES) else claimed
    return steps_of_epochs(own, 1, observed.num_records) or max(1, round(1 / rate))


def _claimed_scheme(
    claim: PrivacyClaim, trace: SamplingTrace, assumed_rate: float | None
) -> tuple[SamplingScheme, tuple[str, ...]]:
    if claim.scheme is not None:
        return claim.scheme, ()
    if assumed_rate is not None:
        return Poisson(assumed_rate), (
            f"No sampling was claimed: Poisson at rate {assumed_rate:.6g}, read off the loader, is assumed.",
        )
    rate = _observed_rate(trace)
    return Poisson(rate), (
        f"No sampling rate was claimed: Poisson at the observed rate {rate:.6g} is assumed, so a wrong "
        "rate cannot be seen.",
    )


def _observed_rate(trace: SamplingTrace) -> float:
    """Estimate the rate; a trace without draws is taken at half a draw."""
    return min(1.0, max(trace.draws, 0.5) / (max(1, trace.steps) * trace.num_records))


def _drawn(trace: SamplingTrace, observed: ObservedScheme) -> int:
    """Count the records that take part: N, unless whole passes over the data left some out."""
    if not isinstance(observed.scheme, PASSES) or trace.draws < trace.num_records:
        return trace.num_records
    return int(np.count_nonzero(trace.inclusions()))


def _weigh(
    claimed: SamplingScheme,
    observed: ObservedScheme,
    setting: Setting,
    trace: SamplingTrace,
    significance: float,
) -> tuple[Evidence, tuple[str, ...]]:
    claimed_interval, gap = bracket(claimed, setting)
    if not observed.contradicts_claim:
        evidence = Evidence(observed=observed, claimed=claimed_interval, observed_interval=claimed_interval)
        return evidence, (gap,) if gap else ()
    results = [bracket_seen(scheme, setting, trace, significance) for scheme in observed.compatible]
    intervals = tuple(interval for interval, _ in results if interval is not None)
    complete = len(intervals) == len(results)
    evidence = Evidence(
        observed=observed,
        claimed=claimed_interval,
        observed_interval=cover(intervals) if complete else None,
        open_intervals=intervals if len(results) > 1 else (),
    )
    return evidence, tuple(dict.fromkeys(text for text in (gap, *(text for _, text in results)) if text))
