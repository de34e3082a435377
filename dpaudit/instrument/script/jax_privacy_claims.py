"""Read the claim off jax_privacy: what it searches for, and what dp_accounting is not told of it."""

from __future__ import annotations

from typing import Any

from jax_privacy import accounting
from jax_privacy.accounting import analysis, calibrate

from dpaudit.instrument.script.claim_log import Calibration, ClaimLog
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.wrapping import Wrappings

_SEARCHES = ("calibrate_noise_multiplier", "calibrate_num_updates", "calibrate_batch_size")


class JaxPrivacyClaims:
    """Installed once the program has imported jax_privacy's accounting, and taken back after it."""

    def __init__(self, session: Session, log: ClaimLog) -> None:
        self._session = session
        self._log = log
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove

    def install(self) -> None:
        """Patch the searches for noise, steps and batch size, and what accountants are told of sampling."""
        for owner in (accounting, calibrate):
            for name in _SEARCHES:
                self._wrappings.wrap(owner, name, self._search)
        self._wrappings.wrap(analysis.DpsgdTrainingAccountant, "_compute_epsilon", self._compute)

    def _search(self, original: Any, **asked: Any) -> Any:
        with self._log.asking_itself():
            found = original(**asked)
        if not self._log.searching:
            self._session.guarded(lambda: self._note_found(original.__name__, found, asked))
        return found

    def _note_found(self, search: str, found: Any, asked: dict[str, Any]) -> None:
        noise = found if search == "calibrate_noise_multiplier" else asked["noise_multipliers"]
        steps = found if search == "calibrate_num_updates" else asked["num_updates"]
        size = found if search == "calibrate_batch_size" else asked["batch_sizes"]
        plain = all(isinstance(number, (int, float)) for number in (noise, size))
        dpsgd = type(asked["accountant"]) is analysis.DpsgdTrainingAccountant
        if not plain or not dpsgd or asked.get("truncated_batch_size") is not None:
            self._log.unread.append(f"jax_privacy's {search} of other than plain Poisson sampling")
            return
        # Of cycles, a record is in one batch: the accountant counts the rounds, and the rate within a group.
        cycle = asked.get("cycle_length") or 1
        self._log.calibrations.append(
            Calibration(
                target_epsilon=float(asked["target_epsilon"]),
                target_delta=float(asked["target_delta"]),
                sampling_rate=float(size) / (int(asked["num_samples"]) // cycle),
                steps=-(-int(steps) // cycle),
                noise_multiplier=float(noise),
            )
        )

    def _compute(self, original: Any, accountant: Any, updates: Any, params: Any) -> Any:
        if params.sampling_method is not analysis.SamplingMethod.POISSON:
            # It is composed as Poisson sampling of twice the sensitivity, which is not what is claimed.
            self._log.unread.append(f"DpsgdTrainingAccountant with {params.sampling_method.name}")
        return original(accountant, updates, params)
