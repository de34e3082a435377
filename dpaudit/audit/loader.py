"""The audit that a claim file of kind "sampler" asks for: record its loader, test it, decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dpaudit.audit_report import AuditReport
from dpaudit.claim_file import ClaimFile
from dpaudit.errors import ClaimError
from dpaudit.trace import SamplingTrace

Progress = Callable[[int, int], None]
"""Called with (done, wanted)."""


def audit_loader(
    file: ClaimFile,
    *,
    command: Sequence[str],
    progress: Progress | None = None,
    save_trace: Path | None = None,
    stream: Path | None = None,
) -> AuditReport:
    """Record the loader that a claim file names, and audit it against the claim.

    Args:
      file: with a target.
      command: that asked for the audit, for the provenance.
      progress: called with (steps done, steps wanted).
      save_trace: also keep the trace there, once it is whole.
      stream: write the trace there as it grows, a new directory, in place of memory.

    Raises:
      ClaimError: the file names no target.
      DpauditError: the target cannot be read, or its code raised.
    """
    if file.target is None:
        raise ClaimError(f"{file.path or 'the claim'} names no target", 'Add target = "my_loader.py".')
    from dpaudit.instrument import capture, load_target
    from dpaudit.instrument.monitoring import LiveRecorder
    from dpaudit.trace_writer import join_traces

    settings = file.settings
    target = load_target(file.target, seed=settings.seed)
    recorder = None if stream is None else LiveRecorder(stream=stream, tolerant=False)
    recording = capture(
        target,
        steps=settings.steps,
        runs=settings.runs,
        seed=settings.seed,
        num_records=file.claim.num_records,
        batch_size=settings.batch_size,
        progress=progress,
        recorder=recorder,
    )
    if stream is not None and isinstance(target.loader, SamplingTrace):
        join_traces([recording.trace], stream, as_runs=False)
    elif recorder is not None:
        recorder.close(recording.trace.num_records)
    if save_trace is not None:
        recording.trace.save(save_trace)

    from dpaudit.audit.equal_content import unless_content_deceives
    from dpaudit.audit.sampling import Subject, audit_sampling
    from dpaudit.audit.withheld import withheld
    from dpaudit.provenance import collect

    inputs = [path for path in (target.file, file.path) if path is not None]
    report = audit_sampling(
        recording.trace,
        file.claim,
        subject=Subject(title=file.title or file.target, target=file.target, notes=recording.notes),
        provenance=collect(command=command, seed=settings.seed, inputs=inputs),
        assumed_rate=recording.facts.sampling_rate,
        significance=settings.significance,
    )
    if recording.trace.withheld:
        return withheld(report, recording.trace.withheld)
    return unless_content_deceives(report, recording, file.claim.num_records)
