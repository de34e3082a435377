"""Evidence: all that a verdict may rest on, in one record."""

from __future__ import annotations

from dataclasses import dataclass

from dpaudit.canary_findings import CanaryEvidence
from dpaudit.findings import ObservedScheme
from dpaudit.interval import EpsilonInterval


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a verdict may rest on."""

    observed: ObservedScheme | None = None
    claimed: EpsilonInterval | None = None
    """Epsilon of the claimed scheme with the claimed parameters."""
    observed_interval: EpsilonInterval | None = None
    """Epsilon of what runs; where several schemes stay open, the interval that covers them all."""
    open_intervals: tuple[EpsilonInterval, ...] = ()
    """The interval of each scheme that stays open, where there are several."""
    canary: CanaryEvidence | None = None
    """What canaries showed of the mechanism."""

    @property
    def lower_bounds(self) -> tuple[EpsilonInterval, ...]:
        """Every interval whose lower end speaks of what really runs, and may refute a claim."""
        own = () if self.observed_interval is None else (self.observed_interval,)
        return own if self.canary is None else (*own, *self.canary.deciding)
