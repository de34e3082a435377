"""Read the claim off dp_accounting: the events that its accountants compose, and what they answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

from dpaudit.instrument.script.claim_log import Calibration, ClaimLog
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
        with self._log.asking_itself():
            epsilon = original(accountant, *args, **kwargs)
        delta = kwargs["target_delta"] if "target_delta" in kwargs else args[0]
        name = _name(accountant)
        self._session.guarded(lambda: self._log.answered(accountant, name, epsilon, delta))
        return epsilon

    def _search(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        tried: dict[float, Any] = {}
        asked = self._session.guarded(lambda: _remembering(original, args, kwargs, tried))
        with self._log.asking_itself():
            found = original(*args, **kwargs) if asked is None else original(**asked)
        if asked is not None and not self._log.searching:
            self._session.guarded(lambda: self._note_found(asked, tried.get(found)))
        return found

    def _note_found(self, asked: dict[str, Any], event: Any) -> None:
        unread: list[str] = []
        parts = [] if event is None else list(_subsampled_gaussians(event, 1, unread))
        self._log.unread += unread
        if len(parts) != 1:
            return
        rate, noise, steps = parts[0]
        self._log.calibrations.append(
            Calibration(
                target_epsilon=float(asked["target_epsilon"]),
                target_delta=float(asked["target_delta"]),
                sampling_rate=rate,
                steps=steps,
                noise_multiplier=noise,
            )
        )


def _remembering(
    original: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tried: dict[float, Any]
) -> dict[str, Any]:
    """Give the arguments of a search by name; events that it tries go into `tried`, by their parameter."""
    asked = inspect.signature(original).bind(*args, **kwargs).arguments
    make = asked["make_event_from_param"]

    @functools.wraps(make)
    def made(parameter: float) -> Any:
        event = tried[parameter] = make(parameter)
        return event

    return {**asked, "make_event_from_param": made}


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
