"""Build the neutral view model: every sentence and cell that a reader sees, worded once for all formats."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from dpaudit.report.canary_words import canary_section
from dpaudit.report.claim_words import claim_sentence, field_rows, meaning, scope_rows
from dpaudit.report.closing_words import environment, limits, waiver_rows
from dpaudit.report.epsilon_words import curve_tables, epsilon_rows, epsilons_caption
from dpaudit.report.rows import View
from dpaudit.report.sampling_words import observation, test_rows, visible
from dpaudit.verdict import Outcome, claimed_epsilon

HEADLINES = {
    Outcome.CONSISTENT: "Consistent: the claim was not refuted.",
    Outcome.UNSUPPORTED: "Unsupported: the proof behind the claim does not cover what runs.",
    Outcome.REFUTED: "Refuted: what runs is less private than claimed.",
    Outcome.INCONCLUSIVE: "Inconclusive: too little was seen to tell.",
}
_KINDS = {
    "sampler": "Audit of the sampling of batches",
    "canary": "Audit of the training by canaries",
    "mechanism": "Audit of one training step",
    "epsilon": "Comparison of epsilons",
    "gate": "Check against a policy",
}


def build_view(report: AuditReport, waivers: Sequence[AppliedWaiver] = ()) -> View:
    """Word a report.

    Args:
      report: what was found.
      waivers: that met a finding of this report, as `dpaudit.gate.applied_waivers` lists them.
    """
    observed, canary = report.evidence.observed, report.evidence.canary
    unsure = observed is not None and not observed.contradicts_claim
    own = () if observed is None else observed.notes
    return View(
        kind=_KINDS[report.kind],
        title=report.title or report.target,
        target=report.target,
        outcome=report.verdict.outcome.value.upper(),
        headline=HEADLINES[report.verdict.outcome],
        reasons=tuple(reason.sentence for reason in report.verdict.reasons),
        claim=claim_sentence(report),
        meaning=meaning(report),
        scope=scope_rows(report),
        seen=() if observed is None else observation(observed),
        fields=field_rows(report),
        tests=() if observed is None else test_rows(observed.tests),
        epsilons=epsilon_rows(report),
        epsilons_caption=epsilons_caption(report),
        curves=curve_tables(report),
        canary=canary_section(canary),
        visible=visible(observed.alternatives) if observed is not None and unsure else (),
        advice=report.advice,
        limits=limits(report),
        waivers=waiver_rows(waivers),
        notes=tuple(dict.fromkeys((*report.notes, *own, *(() if canary is None else canary.notes)))),
        command=shlex.join(report.provenance.command),
        environment=environment(report),
    )


def drawn_claim(report: AuditReport) -> float | None:
    """Give the claimed epsilon as a figure's line; None where it would compare nothing."""
    return None if report.assumed else claimed_epsilon(report.claim, report.evidence)
