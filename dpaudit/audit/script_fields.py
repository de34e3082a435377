"""Claimed beside seen: the numbers of a program's claim, each with what was seen of it."""

from __future__ import annotations

from dataclasses import replace

from dpaudit.audit.script_claim import ProgramClaim
from dpaudit.audit_report import CheckedField, Status
from dpaudit.findings import ObservedScheme
from dpaudit.instrument.script import ReadClaim, ScriptRun


def beside_seen(
    fields: tuple[CheckedField, ...], run: ScriptRun, program: ProgramClaim, observed: ObservedScheme | None
) -> tuple[CheckedField, ...]:
    """Say of each number what was claimed (value) and what was seen (remark).

    Args:
      fields: of the report.
      run: of the program.
      program: what it claims.
      observed: what its batches show.

    Returns:
      The fields, with those that only a running program can tell added after the number of steps.
    """
    by_name = {field.name: field for field in fields}
    trace = run.main.recording.trace
    read = run.claim
    updated = {
        "epsilon": _epsilon(by_name["epsilon"], read),
        "noise_multiplier": _noise(by_name["noise_multiplier"], program, read),
        "steps": _remarked(by_name["steps"], f"seen: {run.steps} optimizer steps"),
        "num_records": _remarked(by_name["num_records"], f"seen: {trace.num_records}"),
    }
    if observed is not None:
        rate = observed.rate
        seen = f"seen: {observed.description}; rate {rate.estimate:.6g} ({rate.low:.6g} to {rate.high:.6g})"
        updated["sampling"] = replace(by_name["sampling"], remark=seen)
    kept = [updated.get(field.name, field) for field in fields]
    place = next(number for number, field in enumerate(kept) if field.name == "steps") + 1
    mean = trace.draws / max(1, trace.steps)
    return (*kept[:place], _accounted(run, program), _batch(read, mean), *kept[place:])


def _remarked(field: CheckedField, seen: str) -> CheckedField:
    kept = field.remark and not field.remark.startswith("the loader's")
    remark = f"{seen}; {field.remark}" if kept else seen
    status = field.status if field.status is Status.ASSUMED else Status.CHECKED
    return replace(field, status=status, remark=remark)


def _epsilon(field: CheckedField, read: ReadClaim) -> CheckedField:
    if not read.stated:
        return field
    last = read.stated[-1]
    after = f"after {last.optimizer_steps} steps"
    said = f"{last.accountant} gave {last.epsilon:.6g} at delta {last.delta:g} {after}"
    return replace(field, remark=f"{said}; {field.remark}" if field.remark else said)


def _noise(field: CheckedField, program: ProgramClaim, read: ReadClaim) -> CheckedField:
    seen = sorted({used.noise_multiplier for used in read.noise})
    if not seen or program.noise_multiplier is None:
        return field
    shown = f"{seen[0]:g}" if len(seen) == 1 else f"{seen[0]:g} to {seen[-1]:g}"
    return replace(
        field,
        value=f"{program.noise_multiplier:g}",
        status=Status.CHECKED,
        remark=f"seen: the optimizer was set to {shown}",
    )


def _accounted(run: ScriptRun, program: ProgramClaim) -> CheckedField:
    value = "" if program.steps is None else str(program.steps)
    return CheckedField(
        name="accounted_steps",
        label="Accountant's steps",
        value=value,
        status=Status.MISSING if program.steps is None else Status.CHECKED,
        remark=f"seen: {run.steps} optimizer steps",
    )


def _batch(read: ReadClaim, mean: float) -> CheckedField:
    expected = read.engines[-1].expected_batch_size if read.engines else None
    if read.noise and read.noise[-1].expected_batch_size is not None:
        expected = read.noise[-1].expected_batch_size
    return CheckedField(
        name="batch_size",
        label="Expected batch size",
        value="" if expected is None else f"{expected:g}",
        status=Status.MISSING if expected is None else Status.CHECKED,
        remark=f"seen: {mean:.6g} on average; it scales the update, not the privacy",
    )
