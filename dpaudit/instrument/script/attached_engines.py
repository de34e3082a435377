"""Read the claim off FastDP and private-transformers: engines that are attached to an optimizer.

Both account for Poisson sampling at batch_size / sample_size, count a step at each noisy gradient that they
make, and answer by the managers of their module `accounting`.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from dpaudit.instrument.script.claim_log import Calibration, ClaimLog, Engine
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.wrapping import Wrappings

_ANSWERS = ("eps_rdp", "eps_upper")
_ROUNDING = 1e-6
"""Relative error of a noise multiplier that went through a product with the clip norm and back."""


class AttachedEngines:
    """Installed once the program has imported one of the two libraries, and taken back after it."""

    def __init__(
        self, session: Session, log: ClaimLog, library: str, noise_of: Callable[[Any], float | None]
    ) -> None:
        self._session = session
        self._log = log
        self._library = self._name = library
        self._noise_of = noise_of
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove

    def install(self) -> None:
        """Patch the engine, where it makes noise, and the managers that answer."""
        package = import_module(self._library)
        self._name = f"{self._library} {getattr(package, '__version__', '')}".strip()
        try:
            managers = import_module(f"{self._library}.accounting.accounting_manager")
            self._wrap(package, managers)
        except (ImportError, AttributeError, KeyError) as error:
            self._log.unread.append(f"{self._name}, which lacks {error}")

    def _wrap(self, package: Any, managers: Any) -> None:
        wrappings, engine = self._wrappings, package.PrivacyEngine
        wrappings.wrap_below(managers.AccountingManager, "compute_sigma", self._search)
        wrappings.wrap_below(managers.AccountingManager, "compute_epsilon", self._answer)
        wrappings.wrap(engine, "__init__", self._made)
        wrappings.wrap(engine, "attach", self._attached)
        wrappings.wrap(engine, "_create_noisy_clipped_gradient", self._noisy)
        for name, other in vars(package).items():
            if name.startswith("PrivacyEngine_") and inspect.isclass(other):
                wrappings.wrap(other, "__init__", self._made)

    def _made(self, original: Any, engine: Any, *args: Any, **kwargs: Any) -> None:
        original(engine, *args, **kwargs)
        # Without an optimizer its noise may come from elsewhere (DeepSpeed), where it is not followed.
        self._log.unread.append(self._unattached(engine))

    def _attached(self, original: Any, engine: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(engine, *args, **kwargs)

        def note() -> None:
            self._log.unread.remove(self._unattached(engine))
            self._log.library = self._name
            self._log.engines.append(
                Engine(
                    noise_multiplier=float(engine.noise_multiplier),
                    clip_norm=float(engine.max_grad_norm),
                    poisson_sampling=True,
                    num_records=int(engine.sample_size),
                    expected_batch_size=float(engine.batch_size),
                    sampling_rate=float(engine.sample_rate),
                    library=self._name,
                )
            )

        if (
            self._unattached(engine) in self._log.unread
        ):  # a second optimizer is another attachment of one engine
            self._session.guarded(note)
        return done

    def _unattached(self, engine: Any) -> str:
        return f"{self._library}'s {type(engine).__name__} that is attached to no optimizer"

    def _noisy(self, original: Any, engine: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(engine, *args, **kwargs)

        def note() -> None:
            noise, rate = float(engine.noise_multiplier), float(engine.sample_rate)
            self._log.told(engine, self._name, rate, noise, 1)
            used = self._noise_of(engine)
            if used is not None:
                self._log.noised(used, float(engine.max_grad_norm), float(engine.batch_size))

        self._session.guarded(note)
        return done

    def _answer(self, original: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
        with self._log.asking_itself():
            answer = original(manager, *args, **kwargs)

        def note() -> None:
            asked = inspect.signature(original).bind(manager, *args, **kwargs).arguments
            epsilon = next((answer[name] for name in _ANSWERS if answer.get(name) is not None), None)
            if epsilon is None or not int(asked["steps"]):
                return
            name = f"{self._name} {type(manager).__name__}"
            question = object()  # an account of its own: of as many steps as were asked for
            rate, noise = float(asked["sample_rate"]), float(asked["sigma"])
            self._log.told(question, name, rate, noise, int(asked["steps"]))
            self._log.answered(question, name, epsilon, float(asked["target_delta"]))
            self._log.resumed(question, name, [])

        if not self._log.searching:
            self._session.guarded(note)
        return answer

    def _search(self, original: Any, manager: Any, *args: Any, **kwargs: Any) -> Any:
        with self._log.asking_itself():
            noise = original(manager, *args, **kwargs)

        def note() -> None:
            asked = inspect.signature(original).bind(manager, *args, **kwargs).arguments
            rate, steps = float(asked["sample_rate"]), asked.get("steps")
            self._log.calibrations.append(
                Calibration(
                    target_epsilon=float(asked["target_epsilon"]),
                    target_delta=float(asked["target_delta"]),
                    sampling_rate=rate,
                    steps=math.ceil(asked["epochs"] / rate) if steps is None else int(steps),
                    noise_multiplier=float(noise),
                )
            )

        if not self._log.searching:
            self._session.guarded(note)
        return noise


def fast_dp(session: Session, log: ClaimLog) -> AttachedEngines:
    """Give the patches of FastDP."""
    return AttachedEngines(session, log, "fastDP", _noise_on_parameters)


def private_transformers(session: Session, log: ClaimLog) -> AttachedEngines:
    """Give the patches of private-transformers."""
    return AttachedEngines(session, log, "private_transformers", _noise_of_engine)


def _noise_of_engine(engine: Any) -> float | None:
    return float(engine.noise_multiplier) if engine.max_grad_norm > 0 else 0.0


def _noise_on_parameters(engine: Any) -> float | None:
    """Give the noise multiplier by what FastDP keeps on each parameter, the least; of several ranks none."""
    if _in_group():
        return None
    stated = _noise_of_engine(engine)
    if not stated:
        return stated
    least = min(_deviations(engine), default=None)
    if least is None:
        return None
    used = least / float(engine.max_grad_norm)
    return stated if math.isclose(used, stated, rel_tol=_ROUNDING) else used


def _deviations(engine: Any) -> Iterator[float]:
    for _, parameter in engine.named_params:
        if hasattr(parameter, "noise"):
            yield float(parameter.noise)


def _in_group() -> bool:
    """Tell whether several ranks add their noise, each a part of it."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()
