"""What a claim file asks for: a table from its kind to the audit, for `dpaudit check`.

A claim file says its kind at the top, `kind = "sampler"`, or by a table of that name. A new kind is a
function that reads its files, and one line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpaudit.audit.loader import Progress, audit_loader
from dpaudit.audit.program import audit_script_file, read_script_file
from dpaudit.audit_report import AuditReport
from dpaudit.claim_file import load_toml, read_claim_file
from dpaudit.errors import ClaimError, nearest_name


@dataclass(frozen=True, slots=True)
class PlannedAudit:
    """A claim file that was read and found in order, and how to run what it asks for."""

    title: str
    expected: str | None
    """The verdict that the audit must reach; None: the policy decides."""
    run: Callable[[Sequence[str], Progress | None], AuditReport]
    """Called with the command line, for the provenance, and with what to tell of progress."""


def _sampler(path: Path) -> PlannedAudit:
    file = read_claim_file(path)
    if file.target is None:
        raise ClaimError(f"{path} names no target", 'Add target = "my_loader.py".')
    return PlannedAudit(
        file.title, file.expected, lambda command, tell: audit_loader(file, command=command, progress=tell)
    )


def _canary(path: Path) -> PlannedAudit:
    from dpaudit.audit.canary_file import read_canary_file

    file = read_canary_file(path)

    def run(command: Sequence[str], tell: Progress | None) -> AuditReport:
        from dpaudit.audit.canary import audit_canaries

        return audit_canaries(file, command=command, progress=tell)

    return PlannedAudit(file.title, file.expected, run)


def _script(path: Path) -> PlannedAudit:
    file = read_script_file(path)
    return PlannedAudit(
        file.file.title, file.file.expected, lambda command, _: audit_script_file(file, command=command)
    )


KINDS: Mapping[str, Callable[[Path], PlannedAudit]] = {
    "sampler": _sampler,
    "canary": _canary,
    "script": _script,
}
"""Readers by kind; each imports what is heavy only in `run`. The first is the default."""


def plan_audit(path: Path) -> PlannedAudit:
    """Read a claim file of any kind.

    Raises:
      ClaimError: the file is missing or not TOML, its kind is unknown, or its reader refuses it.
    """
    return KINDS[_kind(path)](path)


def _kind(path: Path) -> str:
    content = load_toml(path)
    by_table = next((kind for kind in KINDS if isinstance(content.get(kind), Mapping)), next(iter(KINDS)))
    kind = content.get("kind", by_table)
    if kind not in KINDS:
        hint = nearest_name(str(kind), KINDS) or f"Known: {', '.join(KINDS)}."
        raise ClaimError(f"{path}: unknown kind of audit {kind!r}", hint)
    return str(kind)
