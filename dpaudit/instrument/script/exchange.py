"""The directory in which the ranks of one training leave what they saw, and the first its exit code."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dpaudit.errors import DpauditError

_PAUSE = 0.05
_FAREWELL = 5.0
"""Seconds for which the first rank waits until the others have read the exit code."""
_HINT = "Look for its own error above; a rank that takes longer needs a longer --rank-timeout."
EXIT_OF_LOST_RANK = 2


@dataclass(frozen=True, slots=True)
class Exchange:
    """Where one rank meets the others. Traces say who was in which batch: nobody else may read them."""

    rank: int
    world: int
    directory: Path
    patience: float
    """Seconds that the first rank waits for others after its own program has ended."""

    @property
    def is_first(self) -> bool:
        """Whether this rank tests and reports."""
        return self.rank == 0

    def part(self, rank: int) -> Path:
        """Name the file in which a rank leaves what it saw."""
        return self.directory / f"rank-{rank}.npz"

    def await_parts(self) -> None:
        """Wait until all ranks have left what they saw.

        Raises:
          DpauditError: a rank died, or left nothing within the time limit; names it.
        """
        end = time.monotonic() + self.patience
        missing = set(range(1, self.world))
        with when_terminated(lambda: self._lost(missing, "this rank was told to end before they had")):
            while missing := {rank for rank in missing if not self.part(rank).exists()}:
                dead = {rank for rank in missing if self._is_dead(rank)}
                dead = {rank for rank in dead if not self.part(rank).exists()}  # left it, and ended since
                if dead:
                    raise self._lost(dead, "it died")
                if time.monotonic() > end:
                    raise self._lost(missing, f"{self.patience:g} seconds after rank 0 had ended")
                time.sleep(_PAUSE)

    def publish(self, code: int) -> None:
        """Tell the others the exit code, let them read it, and remove everything."""
        _end_by_oneself()
        (self.directory / "code.new").write_text(str(code))
        os.replace(self.directory / "code.new", self.directory / "code")
        end = time.monotonic() + _FAREWELL
        others = range(1, self.world)
        while time.monotonic() < end and not all(
            (self.directory / f"rank-{rank}.read").exists() or self._is_dead(rank) for rank in others
        ):
            time.sleep(_PAUSE)
        shutil.rmtree(self.directory, ignore_errors=True)

    def await_code(self) -> int:
        """Wait for the exit code of the first rank; where that died, give that of wrong input."""
        code = self.directory / "code"
        while not code.exists():
            if self._is_dead(0) or not self.directory.exists():
                return EXIT_OF_LOST_RANK
            time.sleep(_PAUSE)
        told = int(code.read_text())
        _end_by_oneself()
        with contextlib.suppress(OSError):
            (self.directory / f"rank-{self.rank}.read").touch()
        end = time.monotonic() + _FAREWELL
        while self.directory.exists() and time.monotonic() < end:
            time.sleep(_PAUSE)
        return told

    def _is_dead(self, rank: int) -> bool:
        """Tell whether a rank has ended; only that of this machine can be told."""
        try:
            host, process = (self.directory / f"rank-{rank}.here").read_text().split()
            if host == socket.gethostname():
                os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError):
            return False
        return False

    def _lost(self, ranks: set[int], when: str) -> DpauditError:
        names = ", ".join(
            str(rank) if (self.directory / f"rank-{rank}.here").exists() else f"{rank} (not seen at all)"
            for rank in sorted(ranks)
        )
        return DpauditError(f"rank {names} left no trace: {when}", _HINT)


def join_ranks(environment: Mapping[str, str], shared: Path | None, patience: float) -> Exchange | None:
    """Meet the other ranks of a program that torchrun, or a launcher with its variables, has started.

    Args:
      environment: of this process; WORLD_SIZE and RANK are read.
      shared: directory that all ranks can write; None: one for temporary files of this machine.
      patience: seconds, above 0.

    Returns:
      The place to meet at; None where this process is no rank or the only one.

    Raises:
      DpauditError: the ranks are on several machines without a shared directory, or the place is
        taken or cannot be used.
    """
    try:
        world, rank = int(environment.get("WORLD_SIZE", 1)), int(environment.get("RANK", 0))
        local = int(environment.get("LOCAL_WORLD_SIZE", world))
    except ValueError as error:
        raise DpauditError(f"WORLD_SIZE or RANK is no whole number: {error}") from error
    if world < 2:
        return None
    if not 0 <= rank < world:
        raise DpauditError(f"RANK = {rank} is outside 0..{world - 1}")
    if shared is None and local < world:
        raise DpauditError(
            f"{world} ranks on several machines have no directory in common",
            "Give one that all can write: --shared DIR.",
        )
    names = ("TORCHELASTIC_RUN_ID", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    key = "-".join(
        [*(environment.get(name, "0") for name in names), *([] if shared else [str(os.getppid())])]
    )
    safe = "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in key)
    directory = (shared or Path(tempfile.gettempdir())) / f"dpaudit-ranks-{safe}"
    exchange = Exchange(rank, world, directory, patience)
    _enter(exchange)
    return exchange


def _enter(exchange: Exchange) -> None:
    directory = exchange.directory
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise DpauditError(f"{directory} is open to others, and traces are not for them", "Remove it.")
        with (directory / f"rank-{exchange.rank}.here").open("x") as file:
            file.write(f"{socket.gethostname()} {os.getpid()}")
    except FileExistsError as error:
        raise DpauditError(f"{directory} is left from another run", "Remove it.") from error
    except OSError as error:
        raise DpauditError(f"ranks cannot meet at {directory}: {error.strerror or error}") from error


def _end_by_oneself() -> None:
    """Let the launcher not end this rank, which ends anyway, for the exit code of another."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextlib.contextmanager
def when_terminated(error: Callable[[], BaseException]) -> Iterator[None]:
    """Raise something in the block when the launcher ends this rank because of another."""
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        raise error()

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
