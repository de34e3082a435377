"""Record one rank of a training, and put all of them together on the first."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator

from dpaudit.errors import DpauditError
from dpaudit.instrument.script.exchange import Exchange, when_terminated
from dpaudit.instrument.script.rank_part import collect, leave, part_of
from dpaudit.instrument.script.script_result import ScriptRun
from dpaudit.instrument.script.union import joint_run

_TCP = (socket.AF_INET, socket.AF_INET6)


class _Terminated(BaseException):
    """The launcher told this rank to end."""


def leave_part(exchange: Exchange, record: Callable[[], ScriptRun]) -> None:
    """Record this rank and leave its part for the first one, or the reason why there is none."""
    try:
        with _as_if_ended():
            run = record()
        leave(exchange.part(exchange.rank), part_of(run))
    except DpauditError as error:
        leave(exchange.part(exchange.rank), error)


def record_all(exchange: Exchange, record: Callable[[], ScriptRun], stated: int | None) -> ScriptRun:
    """Record the first rank, wait for the others and give the run of the whole training.

    Args:
      exchange: of rank 0.
      record: runs its program.
      stated: N as the user gives it.

    Raises:
      DpauditError: a rank is lost, saw nothing, or has nothing to do with the others.
    """
    run = None
    # Ended by the launcher, because another rank died, this one must still say which.
    with contextlib.suppress(_Terminated), _as_if_ended(), when_terminated(_Terminated):
        run = record()
    exchange.await_parts()
    if run is None:
        raise DpauditError("rank 0 was told to end before its trace was read", "See what ended it above.")
    others = [collect(exchange.part(rank), rank) for rank in range(1, exchange.world)]
    return joint_run(run, [part_of(run), *others], stated)


def _open_connections() -> set[int]:
    """Give the descriptors of TCP connections that this process has open."""
    found = set()
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode) and _is_connected(int(name)):
                found.add(int(name))
    return found


@contextlib.contextmanager
def _as_if_ended() -> Iterator[None]:
    """After the block, cut the connections that it opened, as the end of the process would.

    Other ranks that still wait for this one must hear of it. Destroying the process group is not
    enough: modules of torch keep a reference to it from the moment they are imported.
    """
    before = _open_connections()
    try:
        yield
    finally:
        for number in _open_connections() - before:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:
                connection.shutdown(socket.SHUT_RDWR)


def _is_connected(number: int) -> bool:
    with socket.socket(fileno=os.dup(number)) as connection:
        if connection.family not in _TCP:
            return False
        connection.getpeername()  # an OSError for one that only listens
        return True
