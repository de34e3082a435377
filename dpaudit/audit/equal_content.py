"""Records that are told by their content alone: when that is not enough to accuse anybody."""

from __future__ import annotations

import numpy as np

from dpaudit.audit.withheld import withheld
from dpaudit.audit_report import AuditReport
from dpaudit.instrument.result import Recording, repeated_within_a_pass
from dpaudit.verdict import Outcome

_DOUBT = (
    "Records were told apart by their content, and the data set may hold equal ones, or records that are "
    "altered each time: {seen}. Equal records look like one "
    "that is drawn too often: nothing is held against the program."
)
_ADVICE = "Give N (--num-records) where all records differ, or say the records: dpaudit.step(records)."


def unless_content_deceives(
    report: AuditReport, recording: Recording, num_records: int | None
) -> AuditReport:
    """Withhold a verdict against what runs, where equal records would look the same.

    Args:
      report: of what was recorded.
      recording: of the loader or program.
      num_records: N as it is claimed; that of the data set wins.
    """
    why, advice = doubt_of_content(recording, num_records)
    accused = report.verdict.outcome in (Outcome.REFUTED, Outcome.UNSUPPORTED)
    return withheld(report, why, advice) if why and accused else report


def doubt_of_content(recording: Recording, num_records: int | None) -> tuple[str, str]:
    """Say why what was seen cannot be held against a program, and what to do; "" if it can.

    Content is as good as numbers where as many different records came as there are, or where whole
    passes over the data set hold each record once.

    Args:
      recording: of the loader or program.
      num_records: N as it is claimed; that of the data set wins.
    """
    trace = recording.trace
    if not trace.numbered_by_appearance or trace.draws == 0:
        return "", ""
    distinct = int(trace.indices.max()) + 1
    known = recording.facts.num_records or num_records
    if known == distinct:
        return "", ""
    starts = np.zeros(1, np.int64) if trace.epoch_starts is None else trace.epoch_starts
    passes = np.diff(trace.offsets[np.append(starts, trace.steps)])
    whole = distinct <= passes.max() + trace.batch_sizes.max()
    if whole and not repeated_within_a_pass(trace):
        return "", ""
    seen = f"{distinct} different ones were seen" + ("" if known is None else f" of {known}")
    return _DOUBT.format(seen=seen), _ADVICE
