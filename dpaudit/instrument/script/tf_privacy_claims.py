"""Read the claim off TF-Privacy: what its functions are asked and answer, and the noise of its optimizers."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.executions import executions_of
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.wrapping import Wrappings

_GROUPED = (
    "TF-Privacy clips averages over microbatches of several records here. That doubles what one record can "
    "change, which the account must know of (used_microbatching=True)."
)
_DIVIDED = (
    "TF-Privacy divides the noisy sum by the number of records of each batch, which differs between batches "
    "and shows in the update: the account of Poisson sampling does not cover that."
)
_ROUNDING = 0.0005
"""Of figures with three decimals."""


class TfPrivacyClaims:
    """Installed once the program has imported tensorflow_privacy, and taken back after it."""

    def __init__(self, session: Session, log: ClaimLog) -> None:
        self._session = session
        self._log = log
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove
        self._models: weakref.WeakSet[Any] = weakref.WeakSet()
        self._sizes: set[int] = set()

    def install(self) -> None:
        """Patch the functions that answer and the private models; listen to optimizer steps."""
        executions_of(self._session).on_step.append(self._stepped)
        try:
            self._wrap()
        except (ImportError, AttributeError, KeyError) as error:
            self._log.unread.append(f"{self._log.library}, which lacks {error}")

    def _wrap(self) -> None:
        package = import_module("tensorflow_privacy")
        self._log.library = f"tensorflow_privacy {getattr(package, '__version__', '')}".strip()
        functions = "privacy.analysis.compute_dp_sgd_privacy_lib"
        models = "privacy.keras_models.dp_keras_model"
        for owner in (package, import_module(f"tensorflow_privacy.{functions}")):
            self._wrappings.wrap(owner, "compute_dp_sgd_privacy", self._answer)
            self._wrappings.wrap(owner, "compute_dp_sgd_privacy_statement", self._answer_in_words)
        for owner in (package, import_module(f"tensorflow_privacy.{models}")):
            self._wrappings.wrap(owner, "make_dp_model_class", self._make_model_class)
        for kind in (package.DPModel, package.DPSequential):
            self._wrappings.wrap(kind, "__init__", self._made)

    # Accounts

    def _answer(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        answer = self._quietly(original, args, kwargs)

        def note() -> None:
            asked = inspect.signature(original).bind(*args, **kwargs).arguments
            rate = asked["batch_size"] / asked["n"]
            self._note(original, rate, asked["noise_multiplier"], asked["epochs"], answer[0], asked["delta"])

        self._session.guarded(note)
        return answer

    def _answer_in_words(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Take a statement at the epsilon that holds without sampling; that of Poisson is told beside it."""
        answer = self._quietly(original, args, kwargs)

        def note() -> None:
            bound = inspect.signature(original).bind(*args, **kwargs)
            bound.apply_defaults()
            asked = bound.arguments
            if asked["max_examples_per_user"] not in (None, 1):
                self._log.unread.append("a guarantee for users with several records each")
            noise = asked["noise_multiplier"] / (2 if asked["used_microbatching"] else 1)
            epsilon = _figure(answer, "Epsilon with each example occurring once per epoch:")
            self._note(original, 1.0, noise, asked["num_epochs"], epsilon, asked["delta"])

        self._session.guarded(note)
        return answer

    def _quietly(self, original: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        with self._log.asking_itself():
            return original(*args, **kwargs)

    def _note(
        self, function: Any, rate: float, noise: float, epochs: float, epsilon: float, delta: float
    ) -> None:
        question = object()  # an account of its own
        name = f"{self._log.library} {function.__name__}"
        self._log.told(question, name, float(rate), float(noise), math.ceil(epochs / rate))
        self._log.answered(question, name, epsilon, float(delta))

    # Noise

    def _make_model_class(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        kind = original(*args, **kwargs)
        self._session.guarded(lambda: self._wrappings.wrap(kind, "__init__", self._made))
        return kind

    def _made(self, original: Any, model: Any, *args: Any, **kwargs: Any) -> None:
        original(model, *args, **kwargs)
        self._session.guarded(lambda: self._models.add(model))

    def _stepped(self, optimizer: Any, records: int) -> None:
        """Take the noise of a step, from the optimizer or from the model that it trains."""
        private = next((one for one in self._models if one.optimizer is optimizer), optimizer)
        found = _noise_and_norm(private)
        if found is None:
            query = getattr(optimizer, "_dp_sum_query", None)
            what = f"the noise of TF-Privacy's {type(query).__name__}"
            if query is not None and what not in self._log.unread:
                self._log.unread.append(what)
            return
        noise, norm = found
        parts = getattr(private, "_num_microbatches", None)
        if parts is not None and records > int(parts):
            self._session.doubt = _GROUPED
        elif parts is None:
            self._sizes.add(records)
            if len(self._sizes) > 1:
                self._session.doubt = _DIVIDED
        # Gradients that are summed have noise of their own each.
        summed = int(getattr(optimizer, "gradient_accumulation_steps", None) or 1)
        self._log.noised(noise * math.sqrt(summed), norm, None)


def _noise_and_norm(private: Any) -> tuple[float, float] | None:
    """Give noise multiplier and clip norm; None where there is no Gaussian noise of one scale."""
    if hasattr(private, "_noise_multiplier") and hasattr(private, "_l2_norm_clip"):
        return float(private._noise_multiplier), float(private._l2_norm_clip)
    query: Any = getattr(private, "_dp_sum_query", None)
    if type(query).__name__ != "GaussianSumQuery" or not query._l2_norm_clip:
        return None
    return float(query._stddev) / float(query._l2_norm_clip), float(query._l2_norm_clip)


def _figure(text: str, after: str) -> float:
    """Read a number that was rounded for print, as the largest that it can stand for."""
    return float(text.partition(after)[2].split()[0]) + _ROUNDING


class OldAccountant:
    """Installed once the program has imported `rdp_accountant`, which TF-Privacy had before version 0.9."""

    def __init__(self, session: Session, log: ClaimLog) -> None:
        self._session = session
        self._log = log
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove

    def install(self) -> None:
        """Patch the two functions by which every program asks it."""
        module = import_module(RDP_ACCOUNTANT)
        self._log.library = self._log.library or "tensorflow_privacy"
        self._wrappings.wrap(module, "compute_rdp", self._compute)
        self._wrappings.wrap(module, "get_privacy_spent", self._spent)

    def _compute(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(*args, **kwargs)

        def note() -> None:
            asked = inspect.signature(original).bind(*args, **kwargs).arguments
            rate, noise, steps = float(asked["q"]), float(asked["noise_multiplier"]), int(asked["steps"])
            self._log.told(self, f"{self._log.library} compute_rdp", rate, noise, steps)

        self._session.guarded(note)
        return done

    def _spent(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        spent = original(*args, **kwargs)

        def note() -> None:
            name = f"{self._log.library} compute_rdp"
            self._log.answered(self, name, spent[0], spent[1])
            self._log.resumed(self, name, [])  # each call is an account of its own

        self._session.guarded(note)
        return spent


RDP_ACCOUNTANT = "tensorflow_privacy.privacy.analysis.rdp_accountant"
