"""The sentence for who cannot change the sampling: how much noise it takes to keep it."""

from __future__ import annotations

from dpaudit.interval import format_upper
from dpaudit.scheme import (
    BallsInBins,
    BlockShuffle,
    BufferShuffle,
    CyclicPoisson,
    FixedSize,
    ReplayedPoisson,
    SamplingScheme,
    Sequential,
    Shuffle,
    TruncatedPoisson,
)


def keep_sampling(*schemes: SamplingScheme, noise_needed: float, epsilon: float) -> str:
    """Say it: "If you keep shuffling, you need noise multiplier 3.222: ..."; reports and tables share it.

    Args:
      *schemes: what runs; several where all need the same noise.
      noise_needed: for which the upper bound of each is at most `epsilon`.
      epsilon: the claim that is to be kept.
    """
    *others, last = (_doing(scheme) for scheme in schemes)
    kept = f"{', '.join(others)} or {last}" if others else last
    stated = f"{epsilon:.6g}" if float(f"{epsilon:.6g}") == epsilon else format_upper(epsilon)
    return (
        f"If you keep {kept}, you need noise multiplier {format_upper(noise_needed)}: "
        f"that is proved to give epsilon at most {stated}."
    )


def _doing(scheme: SamplingScheme) -> str:
    match scheme:
        case Shuffle(reshuffled_each_epoch=True):
            return "shuffling"
        case Shuffle():
            return "one shuffled order"
        case Sequential():
            return "reading in order"
        case BlockShuffle():
            return "shuffling blocks"
        case BufferShuffle():
            return "the shuffle buffer"
        case FixedSize(replacement=replacement):
            return "fresh batches of fixed size" + (" with replacement" if replacement else "")
        case BallsInBins(fresh_each_epoch=fresh):
            return "balls in bins" + ("" if fresh else " that are thrown once")
        case TruncatedPoisson():
            return "cutting large batches"
        case ReplayedPoisson():
            return "replaying the same Poisson batches"
        case CyclicPoisson():
            return "taking turns between groups"
    return f"{scheme.name.replace('_', ' ')} sampling"
