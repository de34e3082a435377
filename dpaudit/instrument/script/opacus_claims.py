"""Read the claim off Opacus: what its engine is asked for, what its accountant is told and answers."""

from __future__ import annotations

from typing import Any

from dpaudit.instrument.facts import length_of
from dpaudit.instrument.script.claim_log import Accounted, Calibration, ClaimLog, Engine
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.wrapping import Wrappings


class OpacusClaims:
    """Installed once the program has imported Opacus, and taken back after it."""

    def __init__(self, session: Session, log: ClaimLog) -> None:
        self._session = session
        self._log = log
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove

    def install(self) -> None:
        """Patch the engine, the accountants and the noise of the optimizers."""
        import opacus
        from opacus import accountants, privacy_engine
        from opacus.accountants import accountant
        from opacus.accountants import utils as calibration
        from opacus.accountants.analysis import rdp as analysis

        self._log.library = f"opacus {getattr(opacus, '__version__', '')}".strip()
        wrappings = self._wrappings
        wrappings.wrap(opacus.PrivacyEngine, "make_private", self._make_private)
        wrappings.wrap_below(accountant.IAccountant, "step", self._step)
        wrappings.wrap_below(accountant.IAccountant, "get_epsilon", self._get_epsilon)
        wrappings.wrap_below(accountant.IAccountant, "load_state_dict", self._load_state)
        wrappings.wrap_below(opacus.optimizers.DPOptimizer, "add_noise", self._add_noise)
        wrappings.wrap(analysis, "compute_rdp", self._compute_rdp)
        wrappings.wrap(analysis, "get_privacy_spent", self._get_privacy_spent)
        for owner in (calibration, privacy_engine, accountants):
            if hasattr(owner, "get_noise_multiplier"):
                wrappings.wrap(owner, "get_noise_multiplier", self._search)

    def _make_private(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        self._session.guarded(lambda: self._log.engines.append(self._engine(made, kwargs)))
        return made

    def _engine(self, made: Any, asked: dict[str, Any]) -> Engine:
        optimizer, loader = made[1], made[-1]
        norm = asked.get("max_grad_norm")
        return Engine(
            noise_multiplier=float(asked["noise_multiplier"]),
            clip_norm=float(norm) if isinstance(norm, (int, float)) else None,
            poisson_sampling=bool(asked.get("poisson_sampling", True)),
            num_records=len(loader.dataset),
            expected_batch_size=_number(getattr(optimizer, "expected_batch_size", None)),
            sampling_rate=1 / (length_of(loader) or 1),
            clipping=asked.get("clipping", "flat"),
            library=self._log.library,
        )

    def _step(self, original: Any, accountant: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(accountant, *args, **kwargs)

        def note() -> None:
            noise, rate = kwargs["noise_multiplier"], kwargs["sample_rate"]
            self._log.told(accountant, _name(self._log, accountant), float(rate), float(noise), 1)

        self._session.guarded(note)
        return done

    def _get_epsilon(self, original: Any, accountant: Any, *args: Any, **kwargs: Any) -> Any:
        with self._log.asking_itself():
            epsilon = original(accountant, *args, **kwargs)
        delta = kwargs["delta"] if "delta" in kwargs else args[0] if args else None
        name = _name(self._log, accountant)
        self._session.guarded(lambda: self._log.answered(accountant, name, epsilon, _real(delta)))
        return epsilon

    def _load_state(self, original: Any, accountant: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(accountant, *args, **kwargs)

        def note() -> None:
            runs = [
                Accounted(sampling_rate=float(rate), noise_multiplier=float(noise), steps=int(steps))
                for noise, rate, steps in accountant.history
            ]
            self._log.resumed(accountant, _name(self._log, accountant), runs)

        self._session.guarded(note)
        return done

    def _search(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        with self._log.asking_itself():
            noise = original(*args, **kwargs)
        if not self._log.searching:
            self._session.guarded(lambda: self._log.calibrations.append(_calibration(noise, kwargs)))
        return noise

    def _compute_rdp(self, original: Any, **asked: Any) -> Any:
        def note() -> None:
            rate, noise, steps = float(asked["q"]), float(asked["noise_multiplier"]), int(asked["steps"])
            self._log.told(self, f"{self._log.library} compute_rdp", rate, noise, steps)

        self._session.guarded(note)
        return original(**asked)

    def _get_privacy_spent(self, original: Any, **asked: Any) -> Any:
        spent = original(**asked)

        def note() -> None:
            name = f"{self._log.library} compute_rdp"
            self._log.answered(self, name, spent[0], asked["delta"])
            if not self._log.searching:
                self._log.resumed(self, name, [])  # each call is an account of its own

        self._session.guarded(note)
        return spent

    def _add_noise(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(optimizer, *args, **kwargs)

        def note() -> None:
            noise, norm = optimizer.noise_multiplier, optimizer.max_grad_norm
            expected = _number(getattr(optimizer, "expected_batch_size", None))
            self._log.noised(float(noise), _number(norm), expected)
            self._session.data_parallel |= type(optimizer).__name__.startswith("Distributed")

        self._session.guarded(note)
        return done


def _name(log: ClaimLog, accountant: Any) -> str:
    return f"{log.library} {type(accountant).mechanism()}"


def _calibration(noise: float, asked: dict[str, Any]) -> Calibration:
    rate, steps = float(asked["sample_rate"]), asked.get("steps")
    return Calibration(
        target_epsilon=float(asked["target_epsilon"]),
        target_delta=float(asked["target_delta"]),
        sampling_rate=rate,
        steps=int(asked["epochs"] / rate) if steps is None else int(steps),
        noise_multiplier=float(noise),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _real(value: Any) -> float:
    if value is None:
        raise ValueError("get_epsilon was called without a delta")
    return float(value)
