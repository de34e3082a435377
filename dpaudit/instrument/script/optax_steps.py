"""Steps of optax: where a program puts updates on its parameters."""

from __future__ import annotations

from typing import Any

import optax

from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.jax_reports import listen, report_step, with_begins
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.step_names import UPDATE
from dpaudit.instrument.script.wrapping import Wrappings


class OptaxSteps:
    """Installed once the program has imported optax, and taken back after it."""

    def __init__(self, session: Session, _: ClaimLog) -> None:
        self._session = session
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove
        self._begins: dict[int, tuple[Any, Any]] = {}
        """What stands for each function that makes a state, always the same: compiled code is found by it."""

    def install(self) -> None:
        """Patch what every training loop over optax calls once a step."""
        listen(self._session)
        self._wrappings.wrap(optax, "apply_updates", self._apply)
        self._wrappings.replace(optax.GradientTransformation, "init", property(self._init_of))
        self._wrappings.wrap(optax.MultiSteps, "__init__", self._accumulate)

    def _apply(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        parameters = original(*args, **kwargs)
        self._session.guarded(lambda: report_step(self._session, parameters, UPDATE))
        return parameters

    def _init_of(self, transformation: Any) -> Any:
        begin = tuple.__getitem__(transformation, 0)
        if id(begin) not in self._begins:
            self._begins[id(begin)] = begin, with_begins(self._session, begin)
        return self._begins[id(begin)][1]

    def _accumulate(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self._session.late.accumulates = True
        return original(*args, **kwargs)
