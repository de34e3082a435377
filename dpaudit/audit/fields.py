"""What of a claim was checked, what was only declared, and what is missing."""

from __future__ import annotations

import math
from dataclasses import fields

from dpaudit.audit.setting import Setting
from dpaudit.audit_report import CheckedField, Status
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.interval import format_upper
from dpaudit.scheme import SamplingScheme

# Fields that are only words: taken on trust, and needed by a reader of the claim.
# Headings after "How to DP-fy ML" (arXiv:2303.00654, section 5.3) and NIST SP 800-226.
_DECLARED = (
    ("unit", "Unit of privacy"),
    ("clip_norm", "Clip norm"),
    ("clipping", "Clipping"),
    ("accountant", "Accountant"),
    ("released", "What is released"),
    ("data_accesses", "Data accesses covered"),
    ("secret_sample", "Batch membership kept secret"),
    ("noise_generator", "Noise generator"),
    ("floating_point", "Floating point"),
    ("trust_model", "Trust model"),
    ("library", "Library"),
)


def check_fields(
    claim: PrivacyClaim, scheme: SamplingScheme, evidence: Evidence, setting: Setting, num_records: int
) -> tuple[CheckedField, ...]:
    """List the fields of the claim with their status, the checked ones first."""
    declared = tuple(_declared(claim, name, label) for name, label in _DECLARED)
    return (
        _epsilon(claim, evidence),
        _number(claim.delta, "delta", "Delta", setting.delta, num_records),
        _sampling(claim, scheme, evidence),
        _records(claim, num_records),
        _adjacency(claim, setting),
        _plain(claim.noise_multiplier, "noise_multiplier", "Noise multiplier", setting.noise_multiplier),
        _steps(claim, setting, scheme),
        *sorted(declared, key=lambda field: field.status is Status.MISSING),
    )


def _epsilon(claim: PrivacyClaim, evidence: Evidence) -> CheckedField:
    computed = None if evidence.claimed is None else format_upper(evidence.claimed.upper)
    if claim.epsilon is None:
        return CheckedField(
            name="epsilon",
            label="Epsilon",
            value="" if computed is None else f"not stated; {computed} for the claimed numbers",
            status=Status.MISSING,
        )
    return CheckedField(
        name="epsilon",
        label="Epsilon",
        value="infinite" if math.isinf(claim.epsilon) else f"{claim.epsilon:g}",
        status=Status.DECLARED if computed is None else Status.CHECKED,
        remark="" if computed is None else f"recomputed for the claimed sampling: {computed}",
    )


def _number(claimed: float | None, name: str, label: str, used: float, num_records: int) -> CheckedField:
    remark = f"not below 1/N = {1 / num_records:.2g}" if used >= 1 / num_records else ""
    status = Status.ASSUMED if claimed is None else Status.CHECKED
    return CheckedField(name=name, label=label, value=f"{used:g}", status=status, remark=remark)


def _sampling(claim: PrivacyClaim, scheme: SamplingScheme, evidence: Evidence) -> CheckedField:
    observed = evidence.observed
    remark = "" if observed is None else f"seen: {observed.description}"
    status = Status.CHECKED if claim.scheme is not None else Status.ASSUMED
    return CheckedField(
        name="sampling", label="Sampling", value=describe(scheme), status=status, remark=remark
    )


def describe(scheme: SamplingScheme) -> str:
    """Name a scheme with its parameters, for a table cell: "poisson, rate 0.05"."""
    parts = [scheme.name.replace("_", " ")]
    for field in fields(scheme):
        value = getattr(scheme, field.name)
        if isinstance(value, tuple):
            value = f"up to {max(value):.6g}"
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, float):
            value = f"{value:.6g}"
        if value is not None:
            parts.append(f"{field.name.replace('_', ' ')} {value}")
    return ", ".join(parts)


def _records(claim: PrivacyClaim, num_records: int) -> CheckedField:
    if claim.num_records is None:
        value, remark = str(num_records), "not stated; size of the loader's data set"
    else:
        value = str(claim.num_records)
        remark = "" if claim.num_records == num_records else f"the loader's data set has {num_records}"
    return CheckedField(
        name="num_records", label="Records", value=value, status=Status.CHECKED, remark=remark
    )


def _adjacency(claim: PrivacyClaim, setting: Setting) -> CheckedField:
    stated = setting.adjacency
    return CheckedField(
        name="adjacency",
        label="Adjacency",
        value=claim.adjacency or stated,
        status=Status.ASSUMED if claim.adjacency is None else Status.CHECKED,
        remark="" if claim.adjacency in (None, stated) else f"epsilons stated under {stated}",
    )


def _plain(claimed: float | None, name: str, label: str, used: float) -> CheckedField:
    status = Status.ASSUMED if claimed is None else Status.DECLARED
    return CheckedField(name=name, label=label, value=f"{used:g}", status=status)


def _steps(claim: PrivacyClaim, setting: Setting, scheme: SamplingScheme) -> CheckedField:
    status = Status.ASSUMED if "steps" in setting.assumed else Status.DECLARED
    remark = "" if claim.epochs is None else f"{claim.epochs} epochs"
    return CheckedField(
        name="steps", label="Steps", value=str(setting.steps_of(scheme)), status=status, remark=remark
    )


def _declared(claim: PrivacyClaim, name: str, label: str) -> CheckedField:
    value = getattr(claim, name)
    if value is None:
        return CheckedField(name=name, label=label, value="", status=Status.MISSING)
    text = ("yes" if value else "no") if isinstance(value, bool) else f"{value}"
    return CheckedField(name=name, label=label, value=text, status=Status.DECLARED)
