"""Schemes whose rates were estimated from a trace, at the ends of what the trace leaves plausible."""

from __future__ import annotations

from dataclasses import replace

from scipy import special

from dpaudit.scheme import (
    BMinSepPoisson,
    BufferShuffle,
    CorrelatedPoisson,
    CyclicPoisson,
    Poisson,
    ReplayedPoisson,
    SamplingScheme,
    TruncatedPoisson,
    WeightedPoisson,
)
from dpaudit.trace import SamplingTrace


def plausible_schemes(
    scheme: SamplingScheme, trace: SamplingTrace, significance: float
) -> tuple[SamplingScheme, SamplingScheme]:
    """Give the scheme with the smallest and with the largest rate that the trace leaves plausible.

    Clopper-Pearson bounds, each exceeded with probability of at most `significance` / 2. Unequal
    rates give Poisson at bounds on the *largest* rate, with a Bonferroni factor for the records.

    Returns:
      The scheme itself, twice, where nothing in it is estimated.
    """
    tail = significance / 2
    match scheme:
        case WeightedPoisson():
            largest = int(trace.inclusions().max())
            low, high = _bounds(min(largest, trace.steps), trace.steps, tail / trace.num_records)
            return Poisson(low), Poisson(high)
        case BufferShuffle():
            # A larger buffer shuffles more: from below nothing is taken for granted about its size.
            return replace(scheme, buffer_size=trace.num_records), scheme
        case ReplayedPoisson(rate=rate, period=period):
            trials = trace.num_records * float(min(period, trace.steps))
            return _at_ends(scheme, rate, rate * trials, trials, tail)
        case CorrelatedPoisson(rate=rate, correlation=tie):
            # A chain's mean varies as that of fewer independent draws.
            share = (1 - abs(tie)) / (1 + abs(tie))
            return _at_ends(scheme, rate, share * trace.draws, share * trace.draws / rate, tail)
        case (
            Poisson(rate=rate)
            | TruncatedPoisson(rate=rate)
            | CyclicPoisson(rate=rate)
            | BMinSepPoisson(rate=rate)
        ):
            return _at_ends(scheme, rate, float(trace.draws), trace.draws / rate, tail)
    return scheme, scheme


def _at_ends(
    scheme: Poisson | TruncatedPoisson | CyclicPoisson | BMinSepPoisson | CorrelatedPoisson | ReplayedPoisson,
    rate: float,
    draws: float,
    trials: float,
    tail: float,
) -> tuple[SamplingScheme, SamplingScheme]:
    if rate >= 1:
        return scheme, scheme
    low, high = _bounds(draws, trials, tail)
    return replace(scheme, rate=min(low, rate)), replace(scheme, rate=max(high, rate))


def _bounds(count: float, trials: float, tail: float) -> tuple[float, float]:
    """Give the Clopper-Pearson bounds on a probability, each missed with probability `tail` at most."""
    low = float(special.betaincinv(count, trials - count + 1, tail)) if count > 0 else 0.0
    high = float(special.betaincinv(count + 1, trials - count, 1 - tail)) if count < trials else 1.0
    return max(low, 1e-12), min(high, 1.0)
