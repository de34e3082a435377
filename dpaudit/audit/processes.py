"""Audits side by side, each in a fresh process: none can disturb, or take down, another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

from dpaudit.audit.run import AuditFailed, AuditResult, run_audit, serve_audit

_PATIENCE = 5.0
"""Seconds that a process has to end when asked to."""


class Observer(Protocol):
    """Who is told how the audits go; every method runs in the caller's process."""

    def started(self, claim: Path) -> None:
        """An audit begins."""

    def progress(self, claim: Path, done: int, wanted: int) -> None:
        """An audit gets on."""

    def finished(self, claim: Path, result: AuditResult) -> None:
        """An audit is over; the others go on meanwhile."""


def run_audits(claims: Sequence[Path], *, jobs: int, observer: Observer) -> None:
    """Run the audits of claim files.

    Args:
      claims: paths, each its own audit.
      jobs: at most so many at a time, each in a process of its own (spawned, so that it shares
        nothing); 0 runs them one after the other in this process, for a debugger.
      observer: told of each; results come in the order in which audits end.

    Raises:
      KeyboardInterrupt: every process was ended before; what `observer` was told of stays.
    """
    if jobs == 0:
        for claim in claims:
            observer.started(claim)
            observer.finished(claim, run_audit(claim, partial(observer.progress, claim)))
        return
    waiting = list(reversed(claims))
    running: dict[object, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                observer.started(waiting[-1])
                one = _start(waiting.pop(), jobs)
                running[one.connection] = one
            for ready in wait([one.connection for one in running.values()]):
                if _listen(running[ready], observer):
                    del running[ready]
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            _end(one.process)


@dataclass(frozen=True, slots=True)
class _Running:
    claim: Path
    process: SpawnProcess
    connection: Connection


def _start(claim: Path, jobs: int) -> _Running:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Not a daemon: the audited loader may have worker processes of its own.
    process = context.Process(target=serve_audit, args=(claim, threads, theirs), daemon=False)
    with _deaf_to_interrupts():
        process.start()
    theirs.close()
    return _Running(claim, process, ours)


def _listen(one: _Running, observer: Observer) -> bool:
    """Take one message; tell whether it was the last."""
    try:
        message = one.connection.recv()
    except (EOFError, OSError):
        one.process.join()
        message = AuditFailed(message=f"its process {_ending(one.process.exitcode)}", internal=True)
    if isinstance(message, tuple):
        observer.progress(one.claim, *message)
        return False
    one.connection.close()
    _end(one.process)
    observer.finished(one.claim, message)
    return True


def _end(process: SpawnProcess) -> None:
    """Wait for a process to end by itself, then ask it to, then force it."""
    for insist in (process.terminate, process.kill):
        process.join(_PATIENCE)
        if not process.is_alive():
            return
        insist()
    process.join()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code} and gave no result"


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while a process starts, which inherits this: only the parent hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
