"""Audit a training program: what reached its optimizer, against the claim that it makes itself."""

from __future__ import annotations

from dataclasses import replace

from dpaudit.audit.equal_content import unless_content_deceives
from dpaudit.audit.sampling import Subject, audit_sampling
from dpaudit.audit.script_claim import ProgramClaim, read_claim
from dpaudit.audit.script_fields import beside_seen
from dpaudit.audit.withheld import withheld
from dpaudit.audit_report import AuditReport
from dpaudit.claim import PrivacyClaim
from dpaudit.instrument.script import ScriptRun
from dpaudit.provenance import Provenance
from dpaudit.scheme import Unrecognised
from dpaudit.verdict import Outcome

_NO_CLAIM = (
    "No claim: the program asked no accountant that is known here (Opacus, dp_accounting, jax_privacy, "
    "TF-Privacy, FastDP, private-transformers), and no claim was given."
)

_STATE_A_CLAIM = "State a claim: --sampling-rate, --noise-multiplier, --epochs ..., or a claim file."

_UNREAD = "The program accounts for sampling that cannot be read off:"


def audit_script(
    run: ScriptRun,
    given: PrivacyClaim,
    *,
    provenance: Provenance,
    title: str = "",
    significance: float = 1e-3,
) -> AuditReport:
    """Test what went into the optimizer steps of a program against what the program claims.

    Args:
      run: of the program; its first trace is audited.
      given: fields of the claim that were stated; they win over what the program says.
      provenance: of this audit.
      title: of the report; the program's command if empty.
      significance: family-wise error of the sampling tests.

    Returns:
      The report, its fields claimed beside seen. Without any claim the verdict is INCONCLUSIVE: what
      was seen is told, and there is nothing to hold it against.
    """
    program = read_claim(run, given)
    claim = program.claim
    recording = run.main.recording
    subject = Subject(
        title=title or str(run.program),
        target=str(run.program),
        notes=(*run.notes, _steps_of(run), *recording.notes, *program.notes),
    )

    def audit(of: PrivacyClaim) -> AuditReport:
        return audit_sampling(
            recording.trace,
            of,
            subject=subject,
            provenance=provenance,
            assumed_rate=recording.facts.sampling_rate,
            significance=significance,
        )

    report = audit(claim)
    if program.unamplified and given.scheme is None:
        report = _without_amplification(report, audit)
    observed = report.evidence.observed
    report = replace(report, fields=beside_seen(report.fields, run, program, observed))
    if run.claim.unread and given.scheme is None:
        return withheld(report, f"{_UNREAD} {', '.join(run.claim.unread)}.", _STATE_A_CLAIM)
    if run.unjudgeable or (run.doubt and report.verdict.outcome is Outcome.CONSISTENT):
        return withheld(report, run.unjudgeable or run.doubt)
    report = unless_content_deceives(report, recording, claim.num_records)
    return report if _claims_anything(program, given) else withheld(report, _NO_CLAIM, _STATE_A_CLAIM)


def _without_amplification(report: AuditReport, audit: object) -> AuditReport:
    """Audit again: an accountant that assumes no sampling leaves any sampling open."""
    observed = report.evidence.observed
    if observed is None or isinstance(observed.scheme, Unrecognised) or not callable(audit):
        return report
    again: AuditReport = audit(replace(report.claim, scheme=observed.scheme))
    note = "The accountant assumed no amplification by sampling: what runs was taken for what is claimed."
    return replace(again, notes=(*again.notes, note))


def _claims_anything(program: ProgramClaim, given: PrivacyClaim) -> bool:
    stated = (given.scheme, given.epsilon, given.noise_multiplier)
    return program.sampling_rate is not None or program.claim.epsilon is not None or any(
        value is not None for value in stated
    )  # fmt: skip


def _steps_of(run: ScriptRun) -> str:
    main = run.main
    facts = main.recording.facts
    return (
        f"Batches of {facts.dataset or facts.loader} were followed up to the steps of {main.optimizer}: "
        f"{main.batches} batches went into {main.recording.trace.steps} steps."
    )
