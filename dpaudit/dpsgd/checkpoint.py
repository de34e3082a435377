"""Checkpoint files that are whole at any time."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from dpaudit.errors import DpauditError


def save_state(state: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a state beside its place, then move it there in one operation of the file system.

    A process that is killed meanwhile leaves the old file as it was, and a part under another name, which
    the next save overwrites. Only one process may write to one path at a time. Nobody but the file's owner
    may read it.

    Raises:
      DpauditError: the file cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.unlink(missing_ok=True)  # it may be one that others can read
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise DpauditError(f"cannot write the checkpoint {path}: {error.strerror or error}") from error
    except RuntimeError as error:  # so PyTorch's writer calls what the system refused it
        raise DpauditError(f"cannot write the checkpoint {path}", "Is the disk full?") from error


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a state; only tensors and plain values are read, never code.

    Raises:
      DpauditError: the file is missing, damaged, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DpauditError(f"no such checkpoint: {path}") from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise DpauditError(f"cannot read the checkpoint {path}: it is damaged, or no checkpoint") from error
    if not isinstance(state, dict) or "format" not in state:
        raise DpauditError(f"{path} is not a checkpoint of a private training")
    return state


def _sync_directory(directory: Path) -> None:
    """Make the new name last through a loss of power, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
