"""Read the claim off dp_accounting: the events that its accountants compose, and what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.wrapping import Wrappings


class DpAccountingClaims:
    """Installed once the program has imported dp_accounting, and taken back after it."""

    def __init__(self, session: Session, log: ClaimLog) -> None:
        self._session = session
        self._log = log
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove

    def install(self) -> None:
        """Patch the accountants and the search for noise."""
        import dp_accounting
        import dp_accounting.pld  # its accountants are below the base class once it is imported

        wrappings = self._wrappings
        wrappings.wrap_below(dp_accounting.PrivacyAccountant, "compose", self._compose)
        wrappings.wrap_below(dp_accounting.PrivacyAccountant, "get_epsilon", self._get_epsilon)
        wrappings.wrap(dp_accounting, "calibrate_dp_mechanism", self._search)

    def _compose(self, original: Any, accountant: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(accountant, *args, **kwargs)

        def note() -> None:
            event = kwargs["event"] if "event" in kwargs else args[0]
            count = kwargs.get("count", args[1] if len(args) > 1 else 1)
            for rate, noise, steps in _subsampled_gaussians(event, int(count), self._log.unread):
                self._log.told(accountant, _name(accountant), rate, noise, steps)

        self._session.guarded(note)
        return done

    def _get_epsilon(self, original: Any, accountant: Any, *args: Any, **kwargs: Any) -> Any:
        self._log.searching += 1
        try:
            epsilon = original(accountant, *args, **kwargs)
        finally:
            self._log.searching -= 1
        delta = kwargs["target_delta"] if "target_delta" in kwargs else args[0]
        name = _name(accountant)
        self._session.guarded(lambda: self._log.answered(accountant, name, epsilon, delta))
        return epsilon

    def _search(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self._log.searching += 1
        try:
            return original(*args, **kwargs)
        finally:
            self._log.searching -= 1


def _subsampled_gaussians(event: Any, count: int, unread: list[str]) -> Iterator[tuple[float, float, int]]:
    """Walk an event down to (sampling rate, noise multiplier, steps); add the names of others to `unread`."""
    kind = type(event).__name__
    if kind == "SelfComposedDpEvent":
        yield from _subsampled_gaussians(event.event, count * int(event.count), unread)
    elif kind == "ComposedDpEvent":
        for inside in event.events:
            yield from _subsampled_gaussians(inside, count, unread)
    elif kind == "PoissonSampledDpEvent" and type(event.event).__name__ == "GaussianDpEvent":
        yield float(event.sampling_probability), float(event.event.noise_multiplier), count
    elif kind == "GaussianDpEvent":
        yield 1.0, float(event.noise_multiplier), count
    elif kind != "NoOpDpEvent":
        unread.append(kind)


def _name(accountant: Any) -> str:
    return f"dp_accounting {type(accountant).__name__}"
