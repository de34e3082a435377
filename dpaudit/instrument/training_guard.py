"""Refuse to go on when merely importing a file starts to train."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dpaudit.errors import TargetError
from dpaudit.instrument.after_import import after_import


class TrainingStarted(BaseException):
    """Raised inside the audited file; a BaseException, so that its `except Exception` lets it pass."""


class _Watcher:
    """What was seen during the import: a step of an optimizer, or backward after a loader was read."""

    def __init__(self) -> None:
        self.seen = ""
        self.reading = False
        self.undo: list[Callable[[], None]] = []

    def training(self, what: str) -> None:
        self.seen = what
        raise TrainingStarted(what)

    def install(self) -> None:
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook
        from torch.utils.data import DataLoader

        def stepped(*_: Any) -> None:
            self.training("an optimizer step")

        self.undo.append(register_optimizer_step_post_hook(stepped).remove)
        self._wrap(DataLoader, "__iter__", self._read)
        self._wrap(torch.autograd, "backward", self._backward)

    def _read(self) -> None:
        self.reading = True

    def _backward(self) -> None:
        # Reading alone is no training (it may compute a mean), nor is backward alone (a model check).
        if self.reading:
            self.training("backward on data from a DataLoader")

    def _wrap(self, owner: Any, name: str, before: Callable[[], None]) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            before()
            return original(*args, **kwargs)

        setattr(owner, name, watched)
        self.undo.append(lambda: setattr(owner, name, original))


@contextlib.contextmanager
def refuse_training(file: Path | str) -> Iterator[None]:
    """Stop the import of `file` at its first sign of training with torch.

    Raises:
      TargetError: an optimizer stepped, or gradients were taken of data from a DataLoader.
    """
    watcher = _Watcher()
    place = ""
    try:
        with after_import("torch", watcher.install):
            yield
    except TrainingStarted as signal:
        place = _line_of(signal, str(file))
    finally:
        for undo in reversed(watcher.undo):
            undo()
    if watcher.seen:
        raise TargetError(
            f"importing {file} starts training ({watcher.seen}{place})",
            "Move the training under `if __name__ == '__main__':` or into a function, and leave the "
            "loader as a module attribute or a factory (my_loader.py:make_loader). Or audit the whole "
            f"program as it runs: dpaudit sampler --script {file}.",
        )


def _line_of(signal: BaseException, file: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(signal.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""
