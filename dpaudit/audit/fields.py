"""What of a claim was checked, what was only declared, and what is missing."""

from __future__ import annotations

import math
from dataclasses import fields, replace

from dpaudit import accounting
from dpaudit.audit.setting import Setting
from dpaudit.audit_report import CheckedField, Status
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.findings import EpsilonSeries
from dpaudit.interval import EpsilonInterval, format_upper
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


# Of the curve, what a table cell has room for.
_SHOWN_DELTAS = (1e-8, 1e-6, 1e-5, 1e-4)


def check_fields(
    claim: PrivacyClaim,
    scheme: SamplingScheme,
    evidence: Evidence,
    setting: Setting,
    num_records: int,
    curves: tuple[EpsilonSeries, ...] = (),
) -> tuple[CheckedField, ...]:
    """List the fields of the claim with their status, the checked ones first.

    Args:
      claim: what was said.
      scheme: the sampling that the claim stands for.
      evidence: what was observed and computed.
      setting: what both epsilons were computed with.
      num_records: of the loader's data set.
      curves: tell epsilon at other deltas.
    """
    declared = tuple(_declared(claim, name, label) for name, label in _DECLARED)
    return (
        _epsilon(claim, evidence),
        _number(claim.delta, "delta", "Delta", setting.delta, num_records),
        _other_deltas(curves, setting),
        _gaussian(evidence.claimed, _recomputed(setting)),
        _sampling(claim, scheme, evidence),
        _records(claim, num_records),
        _adjacency(claim, setting),
        _plain(claim.noise_multiplier, "noise_multiplier", "Noise multiplier", setting.noise_multiplier),
        _steps(claim, setting, scheme),
        *sorted(declared, key=lambda field: field.status is Status.MISSING),
    )


def stated_fields(claim: PrivacyClaim, claimed: EpsilonInterval | None) -> tuple[CheckedField, ...]:
    """List the fields of a claim whose sampling nobody watched, the missing ones last.

    Args:
      claim: what was said.
      claimed: epsilon of the claimed sampling, where an accountant covers it.
    """
    numbers = (
        ("delta", "Delta", claim.delta),
        ("sampling", "Sampling", None if claim.scheme is None else describe(claim.scheme)),
        ("num_records", "Records", claim.num_records),
        ("adjacency", "Adjacency", claim.adjacency),
        ("noise_multiplier", "Noise multiplier", claim.noise_multiplier),
        ("steps", "Steps", claim.total_steps),
    )
    stated = [_said(name, label, value) for name, label, value in numbers]
    stated += [_declared(claim, name, label) for name, label in _DECLARED]
    head = (_epsilon(claim, Evidence(claimed=claimed)), _gaussian(claimed, Status.CHECKED))
    return (*head, *sorted(stated, key=lambda field: field.status is Status.MISSING))


def _other_deltas(curves: tuple[EpsilonSeries, ...], setting: Setting) -> CheckedField:
    field = CheckedField(
        name="other_deltas",
        label="Epsilon at other deltas",
        value="",
        status=Status.MISSING,
        remark="not computed",
    )
    for series in curves:
        if series.role == "claimed" and series.axis == "delta":
            parts = [
                f"{format_upper(upper)} at {delta:g}"
                for delta, upper in zip(series.at, series.upper, strict=True)
                if delta in _SHOWN_DELTAS and delta != setting.delta
            ]
            return replace(
                field, value="; ".join(parts), status=_recomputed(setting), remark="for the claimed sampling"
            )
    return field


def _gaussian(interval: EpsilonInterval | None, status: Status) -> CheckedField:
    """State the privacy in mu-GDP, which compares claims at different deltas (arXiv:1905.02383)."""
    field = CheckedField(
        name="gaussian", label="Gaussian equivalent", value="", status=Status.MISSING, remark="not computed"
    )
    if interval is None or math.isinf(interval.upper):
        return field
    mu = accounting.gaussian_equivalent(interval)[1]
    return replace(
        field,
        value=f"mu = {format_upper(mu)}",
        status=status,
        remark="the Gaussian mechanism with this epsilon at this delta: for orientation, no guarantee",
    )


def _recomputed(setting: Setting) -> Status:
    """Give the status of what was computed from the claimed numbers, or from assumed ones."""
    return Status.ASSUMED if {"noise_multiplier", "steps"} & set(setting.assumed) else Status.CHECKED


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
    seen = Status.DECLARED if observed is None else Status.CHECKED
    status = Status.ASSUMED if claim.scheme is None else seen
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
    return _said(name, label, getattr(claim, name))


def _said(name: str, label: str, value: float | str | bool | None) -> CheckedField:
    if value is None:
        return CheckedField(name=name, label=label, value="", status=Status.MISSING)
    text = ("yes" if value else "no") if isinstance(value, bool) else f"{value}"
    return CheckedField(name=name, label=label, value=text, status=Status.DECLARED)
