"""What a process does that an audited program has started: its own work, recorded, and left to be read."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from dpaudit.errors import DpauditError
from dpaudit.instrument.script import mark
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.ecosystems import watching
from dpaudit.instrument.script.feed_log import FeedLog
from dpaudit.instrument.script.launch import Ending, How, Program
from dpaudit.instrument.script.script_result import ScriptRun, result_of
from dpaudit.instrument.script.session import Session, Stop
from dpaudit.instrument.script.spool import Spool


@dataclass(frozen=True, slots=True)
class Errand:
    """How a program is recorded, in the process that is started first and in those that it starts."""

    program: Program
    steps: int | None
    """After which each process is stopped."""
    strict: bool
    num_records: int | None
    stream: Path | None
    """Directory of the recording."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process of that number leaves what it saw: files that only their owner may read."""

    directory: Path
    number: int

    @property
    def part(self) -> Path:
        """The run, or why there is none."""
        return self.directory / f"{self.number}.part"

    @property
    def group(self) -> Path:
        """Rank and number of ranks, as soon as it has joined them."""
        return self.directory / f"{self.number}.group"

    @property
    def stopped(self) -> Path:
        """There once it has made the wanted steps."""
        return self.directory / f"{self.number}.stopped"

    def leave(self, content: ScriptRun | tuple[str, str]) -> None:
        """Write what was seen, or message and hint of an error: whole, or not at all."""
        unfinished = self.part.with_suffix(".new")
        unfinished.write_bytes(pickle.dumps(content))
        os.replace(unfinished, self.part)


class ChildRun:
    """Stands for `run` of a process object, and goes with it to the process.

    A process that is forked has the session and the patches of its parent: it begins them anew, in place.
    """

    def __init__(
        self, process: BaseProcess, place: Place, errand: Errand, session: Session, claims: ClaimLog
    ) -> None:
        self._process, self._place, self._errand = process, place, errand
        self._inherited: tuple[Session, ClaimLog] | None = (session, claims)
        self._spool: Spool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_inherited": None}

    def __call__(self) -> None:
        """Run the process as it is, and record it; a failure of the recording is not its own."""
        vars(self._process).pop("run", None)
        run = self._process.run
        errand = self._errand
        session = Session(steps=errand.steps, strict=errand.strict, new_log=self._new_log)
        session.announce = self._announce
        claims = ClaimLog(lambda: session.most_steps)
        if self._inherited is not None:
            claims.library = self._inherited[1].library
            for one, anew in zip(self._inherited, (session, claims), strict=True):
                vars(one).update(vars(anew))
            session, claims = self._inherited
        with contextlib.ExitStack() as patches:
            if self._inherited is None:
                patches.enter_context(watching(session, claims))
                patches.enter_context(mark.listening(session))
            ending = Ending(How.FINISHED)
            try:
                run()
            except Stop:
                ending = Ending(How.STOPPED)
            except SystemExit as error:
                ending = Ending(How.EXITED, "" if error.code is None else str(error.code))
                raise
            except BaseException as error:
                ending = Ending(How.FAILED, f"{type(error).__name__}: {error}")
                raise
            finally:
                self._leave(session, claims, ending)

    def _leave(self, session: Session, claims: ClaimLog, ending: Ending) -> None:
        errand, place = self._errand, self._place
        try:
            if session.stopped:
                place.stopped.touch()
            else:
                with contextlib.suppress(Stop):
                    session.guarded(session.settle)
            if session.failure and session.strict:
                place.leave((f"the recording failed: {session.failure}", "Please report it."))
            elif session.all_steps or session.failure:
                place.leave(
                    result_of(
                        errand.program,
                        session,
                        claims,
                        ending,
                        num_records=errand.num_records,
                        is_rank=True,
                        spool=self._spool,
                    )
                )
        except DpauditError as error:
            place.leave((error.message, error.hint))
        except Exception as error:
            print(f"dpaudit: a process cannot be audited: {type(error).__name__}: {error}", file=sys.stderr)

    def _announce(self, rank: int, world: int) -> None:
        self._place.group.write_text(f"{rank} {world}")

    def _new_log(self) -> FeedLog:
        if self._errand.stream is None:
            return FeedLog()
        if self._spool is None:
            self._spool = Spool(self._errand.stream / f"process-{self._place.number}")
        return self._spool.new_log()
