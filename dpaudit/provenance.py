"""Provenance: what made a report, so that somebody else can make it again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpaudit._version import __version__

# Packages whose version may change a number in a report.
_PACKAGES = ("dp-accounting", "numba", "numpy", "opacus", "scipy", "statsmodels", "torch")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Versions, source revision, command and inputs of an audit."""

    dpaudit: str
    python: str
    platform: str
    packages: dict[str, str]
    created: str
    """UTC time, ISO 8601."""
    command: tuple[str, ...]
    seed: int | None
    git_commit: str | None
    git_dirty: bool | None
    """Whether tracked files differed from the commit; None outside a repository."""
    input_sha256: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return {
            "dpaudit": self.dpaudit,
            "python": self.python,
            "platform": self.platform,
            "packages": self.packages,
            "created": self.created,
            "command": list(self.command),
            "seed": self.seed,
            "git_commit": self.git_commit,
            "git_dirty": self.git_dirty,
            "input_sha256": self.input_sha256,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Provenance:
        """Rebuild provenance from `to_json`."""
        return cls(**{**record, "command": tuple(record["command"])})


def collect(
    *,
    command: Sequence[str],
    seed: int | None = None,
    inputs: Iterable[Path] = (),
    directory: Path | None = None,
) -> Provenance:
    """Look around: versions, git state of `directory`, hashes of the input files.

    Honours SOURCE_DATE_EPOCH, so that a report can be made byte for byte again.
    """
    commit, dirty = _git_state(directory or Path.cwd())
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return Provenance(
        dpaudit=__version__,
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        packages=_versions(),
        created=now.isoformat(timespec="seconds"),
        command=_as_typed(command),
        seed=seed,
        git_commit=commit,
        git_dirty=dirty,
        input_sha256={path.name: sha256(path) for path in inputs if path.is_file()},
    )


def _as_typed(command: Sequence[str]) -> tuple[str, ...]:
    """Give a command line as somebody else would type it: without where dpaudit is installed."""
    name = Path(command[0]).name if command else ""
    own = name in ("__main__.py", "dpaudit", "dpaudit.exe")
    return ("dpaudit", *command[1:]) if own else tuple(command)


def sha256(path: Path) -> str:
    """Hash a file in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git_state(directory: Path) -> tuple[str | None, bool | None]:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(directory), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None
