"""The processes that an audited program starts: each takes a recording with it, which is read at the end."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import context
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from dpaudit.instrument.script.child_run import ChildRun, Errand, Place
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.script_result import ScriptRun
from dpaudit.instrument.script.session import Session, Stop
from dpaudit.instrument.script.wrapping import Wrappings

_KINDS = (context.Process, context.ForkProcess, context.SpawnProcess, context.ForkServerProcess)
_HELPERS = (
    "concurrent.futures.",
    "multiprocessing.",
    "torch._inductor.",
    "torch.multiprocessing.pool",
    "torch.utils.data.",
    "torchdata.",
)
"""Modules whose processes work for a loader, a pool or a compiler, and never train."""
_PATIENCE = 30.0
"""Seconds that processes have to make the wanted steps, once another has made them, or to end as daemons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process that the program started, after its end."""

    number: int
    """In the order of starts, from 0."""
    ending: str
    """How it ended, where not well."""
    run: ScriptRun | None = None
    problem: tuple[str, str] | None = None
    """Message and hint: why it trained and there is no run."""
    rank: int | None = None
    """In its process group; None: it joined none."""


class Children:
    """Lets each process that the program starts record, and reads what they left; used as a context."""

    def __init__(self, errand: Errand, session: Session, claims: ClaimLog) -> None:
        self._errand, self._session, self._claims = errand, session, claims
        self._places: dict[BaseProcess, Place] = {}
        self._directory: Path | None = None
        self._owner = os.getpid()

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._directory is not None and os.getpid() == self._owner:
            shutil.rmtree(self._directory, ignore_errors=True)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Take part in the start and the end of processes, until the block ends."""
        wrappings = Wrappings()
        wrappings.wrap(BaseProcess, "start", self._start)
        wrappings.wrap(BaseProcess, "join", self._join)
        try:
            yield
        finally:
            wrappings.remove()

    def _start(self, original: Any, process: BaseProcess) -> Any:
        if os.getpid() != self._owner or not _may_train(process):
            return original(process)
        place = self._session.guarded(self._place)
        if place is None:
            return original(process)
        run = ChildRun(process, place, self._errand, self._session, self._claims)
        vars(process)["run"] = run
        try:
            started = original(process)
        finally:
            vars(process).pop("run", None)
        self._places[process] = place
        return started

    def _place(self) -> Place:
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="dpaudit-ranks-"))
        return Place(self._directory, len(self._places))

    def _join(self, original: Any, process: BaseProcess, *args: Any, **kwargs: Any) -> Any:
        done = original(process, *args, **kwargs)
        place = self._places.get(process)
        if place is not None and place.stopped.exists():
            self._session.stopped = True
            raise Stop
        return done

    def await_end(self) -> None:
        """Wait for all processes, as Python does at its end; for some of them not for ever."""
        for process, place in self._places.items():
            with contextlib.suppress(ValueError):  # closed by the program, which has waited for it
                if process.daemon and not place.group.exists():
                    continue  # ended with the program
                if self._session.stopped or process.daemon:
                    for insist in (process.terminate, process.kill):
                        process.join(_PATIENCE)
                        if process.is_alive():
                            insist()
                process.join()

    def all(self) -> list[Child]:
        """Give those that trained, joined a process group, or ended in failure."""
        found = [_child(process, place) for process, place in self._places.items()]
        return [one for one in found if one.run or one.problem or one.ending or one.rank is not None]


def _may_train(process: BaseProcess) -> bool:
    home = getattr(getattr(process, "_target", None), "__module__", None) or ""
    return isinstance(process, _KINDS) and not home.startswith(_HELPERS)


def _child(process: BaseProcess, place: Place) -> Child:
    run, problem = None, None
    if place.part.exists():
        content = pickle.loads(place.part.read_bytes())
        run, problem = (content, None) if isinstance(content, ScriptRun) else (None, content)
    rank = int(place.group.read_text().split()[0]) if place.group.exists() else None
    code = None
    with contextlib.suppress(ValueError):
        code = process.exitcode
    return Child(number=place.number, ending=_ending(code), run=run, problem=problem, rank=rank)


def _ending(code: int | None) -> str:
    if not code:
        return ""
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return f"it ended with code {code}"
