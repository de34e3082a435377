"""Follow a trace directory while training writes it: test every step as it comes, then audit it all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpaudit.audit.live import claimed_rate, refutation
from dpaudit.audit.loader import audit_loader
from dpaudit.audit_report import AuditReport
from dpaudit.claim_file import ClaimFile
from dpaudit.errors import ClaimError, TraceError
from dpaudit.trace_file import EPOCH, PROGRAM, Chunk, TraceReader
from dpaudit.verdict import Outcome, Reason, Verdict

if TYPE_CHECKING:
    from dpaudit.sampling import MonitorState, SamplingMonitor

_PAUSE = 0.5
"""Seconds between two looks at a file that has not grown."""
_DAMAGED = 20.0
"""Seconds after which a chunk that does not fit its checksums is damaged, not just on its way."""


def audit_growing(
    file: ClaimFile,
    *,
    command: Sequence[str],
    tell: Callable[[MonitorState], None],
    patience: float | None = None,
) -> AuditReport:
    """Test a trace while it grows; audit it when it ends, or at the step that refutes its claim.

    Half of the significance goes to the test of every step, half to the audit at the end: a claim
    that holds is rejected by either with probability at most the whole.

    Args:
      file: its target is a trace directory, which may be still growing; the claim has a rate.
      command: that asked for the audit, for the provenance.
      tell: called with the state after each chunk.
      patience: seconds without a new chunk after which the recording is taken to have ended; None
        waits for its end as long as it takes.

    Raises:
      ClaimError: no target, no rate, a claim of other than Poisson sampling, or N is unknown.
      TraceError: the target is no trace directory, or holds nothing when it ends.
    """
    if file.target is None:
        raise ClaimError("nothing to follow", "Name the trace directory.")
    if (Path(file.target) / PROGRAM).exists():
        raise ClaimError(
            f"{file.target} is the recording of a program, whose steps only the program itself can follow",
            "Give --follow beside --script; or audit the directory without it.",
        )
    from dpaudit.sampling import SamplingMonitor

    reader = TraceReader(file.target)
    if reader.withheld or reader.header["numbered_by_appearance"]:
        raise ClaimError(
            reader.withheld or "records of this trace are told by their content, which equal ones share",
            "Audit the directory without --follow, which looks at all of it.",
        )
    records = file.claim.num_records or reader.header["num_records"]
    if records is None:
        raise ClaimError("the number of records is unknown", "State it: --num-records.")
    level = (file.settings.significance or 1e-3) / 2
    monitor = SamplingMonitor(records, claimed_rate(file.claim, None), level)
    _follow(reader, monitor, tell, patience)
    settings = replace(file.settings, significance=level)
    report = audit_loader(replace(file, settings=settings), command=command)
    note = (
        f"Every step was tested as it came, at significance {level:g}: p-value {monitor.state.p_value:.3g} "
        f"after {monitor.state.steps} steps. The tests of the whole trace had the same significance."
    )
    report = replace(report, notes=(*report.notes, note))
    return with_refutation(report, monitor) if monitor.state.refuted else report


def with_refutation(report: AuditReport, monitor: SamplingMonitor) -> AuditReport:
    """Let the refutation bear on the verdict, where the tests of the whole trace did not reach it."""
    if report.verdict.outcome in (Outcome.REFUTED, Outcome.UNSUPPORTED):
        return replace(report, notes=(*report.notes, f"{refutation(monitor)}."))
    reason = Reason(monitor.state.rule, f"{refutation(monitor)}.")
    return replace(report, verdict=Verdict(outcome=Outcome.UNSUPPORTED, reasons=(reason,)))


def _follow(
    reader: TraceReader,
    monitor: SamplingMonitor,
    tell: Callable[[MonitorState], None],
    patience: float | None,
) -> None:
    """Feed the chunks to the monitor as they come, until the claim is refuted or the recording ends."""
    came = time.monotonic()
    while True:
        closed = reader.closed  # before the look: a chunk may come between the two
        for chunk in reader.chunks():
            came = time.monotonic()
            _feed(monitor, chunk, reader.path)
            tell(monitor.state)
            if monitor.state.refuted:
                return
        idle = time.monotonic() - came
        if closed or (patience is not None and idle > patience) or (reader.remark and idle > _DAMAGED):
            return
        time.sleep(_PAUSE)


def _feed(monitor: SamplingMonitor, chunk: Chunk, path: Path) -> None:
    marks: dict[int, set[int]] = {}
    for step, kind in chunk.marks.tolist():
        marks.setdefault(step - chunk.first_step, set()).add(kind)
    limits = np.concatenate(([0], np.cumsum(chunk.sizes))).tolist()
    for place in range(len(chunk.sizes)):
        for kind in marks.get(place, ()):
            if kind == EPOCH:
                monitor.start_pass()
            else:
                monitor.start_run()
        try:
            monitor.update(chunk.indices[limits[place] : limits[place + 1]])
        except ValueError as error:
            raise TraceError(
                f"the trace {path} does not fit N: {error}", "Is --num-records right?"
            ) from error
