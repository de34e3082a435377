"""Results of earlier audits, used again while nothing that they stand on has changed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpaudit.audit.inputs import unchanged
from dpaudit.audit_report import AuditReport, dump_json, write_whole
from dpaudit.errors import DpauditError

CACHE_DIRECTORY = Path(".dpaudit_cache")


@dataclass(frozen=True, slots=True)
class AuditCache:
    """One file for each claim file, in a directory that git ignores.

    A result is used again if the environment is the same and every file that the audit read has the
    same content: the claim file with its seed and options, the loader, the local modules it imports.
    """

    directory: Path
    environment: str
    """From `environment()`."""

    def prepare(self) -> None:
        """Make the directory; better before the audits than after.

        Raises:
          DpauditError: it cannot be made, or not be written.
        """
        hint = "--no-cache does without it."
        try:
            self.directory.mkdir(exist_ok=True)
        except OSError as error:
            raise DpauditError(f"cannot make {self.directory}: {error.strerror}", hint) from error
        if not os.access(self.directory, os.W_OK):
            raise DpauditError(f"cannot write to {self.directory}: permission denied", hint)
        ignore = self.directory / ".gitignore"
        if not ignore.exists():
            write_whole(ignore, "*\n")

    def find(self, claim: Path) -> AuditReport | None:
        """Give the kept report of a claim file; None where there is none that still holds."""
        try:
            entry = json.loads(self._file(claim).read_text(encoding="utf-8"))
            if entry["environment"] != self.environment or not unchanged(entry["inputs"]):
                return None
            return AuditReport.from_json(entry["report"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DpauditError):
            return None  # absent, cut off or of another form: the audit is made anew

    def keep(self, claim: Path, report: AuditReport, inputs: Mapping[str, str]) -> None:
        """Keep a report with the fingerprints of what it stands on.

        Raises:
          DpauditError: the directory cannot be written.
        """
        self.prepare()
        entry = {"environment": self.environment, "inputs": dict(inputs), "report": report.to_json()}
        write_whole(self._file(claim), dump_json(entry))

    def _file(self, claim: Path) -> Path:
        return self.directory / f"{claim.stem}-{hashlib.sha256(str(claim).encode()).hexdigest()[:12]}.json"


def environment() -> str:
    """Hash what every audit depends on: Python, the installed packages, dpaudit itself."""
    installed = sorted({f"{one.name}=={one.version}" for one in importlib.metadata.distributions()})
    parts = [platform.python_version(), platform.machine(), os.environ.get("PYTHONPATH", ""), *installed]
    digest = hashlib.sha256(json.dumps(parts).encode())
    package = Path(__file__).parents[1]
    for source in sorted(package.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
