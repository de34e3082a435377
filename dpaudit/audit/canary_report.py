"""The report of a canary audit: the sampling's own, with the canaries' evidence weighed beside it."""

from __future__ import annotations

from dataclasses import replace

from dpaudit.audit.rules import RULES
from dpaudit.audit_report import AuditReport, CheckedField, Status
from dpaudit.canary_findings import CanaryEvidence
from dpaudit.claim import PrivacyClaim
from dpaudit.verdict import Outcome, decide


def canary_report(sampling: AuditReport, claim: PrivacyClaim, canary: CanaryEvidence) -> AuditReport:
    """Join both kinds of evidence and decide on them together."""
    evidence = replace(sampling.evidence, canary=canary)
    verdict = decide(claim, evidence)
    fixes = dict.fromkeys(RULES[test.rule].fix for test in canary.rejections if test.rule in RULES)
    advice = () if verdict.outcome is Outcome.CONSISTENT else (*sampling.advice, *fixes)
    return replace(
        sampling,
        kind="canary",
        claim=claim,
        evidence=evidence,
        verdict=verdict,
        fields=tuple(_checked(field, claim, canary) for field in sampling.fields),
        advice=tuple(dict.fromkeys(advice)),
        notes=(*sampling.notes, *canary.notes),
    )


def _checked(field: CheckedField, claim: PrivacyClaim, canary: CanaryEvidence) -> CheckedField:
    """Say of noise and clip norm what was measured, and whose number of records is shown."""
    if field.name == "num_records":
        remark = f"the audited training set has {field.value}, canaries included"
        if claim.num_records is None:
            return replace(field, status=Status.ASSUMED, remark=f"not stated; {remark}")
        return replace(field, value=str(claim.num_records), status=Status.DECLARED, remark=remark)
    if field.name == "noise_multiplier" and canary.mechanism:
        low = min(row.noise_ratio for row in canary.mechanism)
        high = max(row.noise_ratio for row in canary.mechanism)
        remark = f"measured: {low:.3f} to {high:.3f} of it, over {len(canary.mechanism)} parameter tensors"
        return replace(field, status=Status.CHECKED, remark=remark)
    measured = [row.sensitivity for row in canary.mechanism if row.sensitivity is not None]
    if field.name == "clip_norm" and field.value and measured:
        remark = f"a participation added {min(measured):.3f} to {max(measured):.3f} clip norms on average"
        return replace(field, status=Status.CHECKED, remark=remark)
    return field
