"""A refuted claim with every part of a report filled in, for tests that render or weigh reports."""

from __future__ import annotations

from dataclasses import replace

from dpaudit.audit_report import AuditReport, CheckedField, Status
from dpaudit.canary_findings import CanaryBound, CanaryEvidence, MechanismRow, ScoreSummary
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.findings import (
    Alternative,
    EpsilonSeries,
    HypothesisTest,
    ObservedScheme,
    RateEstimate,
    TraceSummary,
)
from dpaudit.interval import Basis, EpsilonInterval
from dpaudit.provenance import Provenance
from dpaudit.scheme import Poisson, Shuffle
from dpaudit.verdict import decide


def _fields() -> tuple[CheckedField, ...]:
    checked = Status.CHECKED
    return (
        CheckedField(name="epsilon", label="Epsilon", value="2", status=checked, remark="recomputed"),
        CheckedField(name="delta", label="Delta", value="1e-05", status=checked),
        CheckedField(name="sampling", label="Sampling", value="poisson, rate 0.05", status=checked),
        CheckedField(name="num_records", label="Records", value="1000", status=checked),
        CheckedField(name="adjacency", label="Adjacency", value="zero_out", status=Status.ASSUMED),
        CheckedField(name="noise_multiplier", label="Noise", value="1", status=Status.DECLARED),
        CheckedField(name="steps", label="Steps", value="200", status=Status.DECLARED),
        CheckedField(name="unit", label="Unit of privacy", value="", status=Status.MISSING),
    )


def _canary_evidence() -> CanaryEvidence:
    test = HypothesisTest(
        rule="DPA302",
        name="noise scale",
        null_hypothesis="the noise has the claimed standard deviation",
        statistic=812.0,
        p_value=1e-12,
        adjusted_p_value=7e-12,
        rejected=True,
        effect=0.5,
        effect_unit="of the claimed standard deviation",
        detectable_effect=0.9,
    )
    bound = CanaryBound(
        interval=EpsilonInterval(
            lower=3.4,
            upper=float("inf"),
            delta=1e-5,
            adjacency="zero_out",
            method="run_level_student",
            basis=Basis.AUDIT,
            confidence=0.95,
            reference="arXiv:2305.18447",
            notes=(
                "validity class: any dependence (canaries may influence each other's scores)",
                "assumes that the mechanism is a Gaussian one (every record in every step), of any noise",
                "asymptotic in the number of runs (Student's t)",
            ),
        ),
        validity="any_dependence",
        threat_model="white_box",
        attack="likelihood ratio of the released updates",
        canaries=1000,
        runs=10,
    )
    alone = replace(
        bound,
        interval=replace(
            bound.interval, lower=1.2, method="clopper_pearson", reference="arXiv:2006.07709", notes=()
        ),
        validity="iid",
        threat_model="black_box",
        attack="loss of the final model",
        runs=1,
    )
    updates = ScoreSummary(
        attack="likelihood ratio of the released updates",
        threat_model="white_box",
        bin_edges=(-4.0, -2.0, 0.0, 2.0, 4.0),
        included=(40, 160, 210, 90),
        excluded=(120, 240, 110, 30),
        roc=((0.0, 0.0), (0.06, 0.18), (0.28, 0.6), (0.76, 0.92), (1.0, 1.0)),
        claimed_curve=((0.0, 0.0), (0.1, 0.2), (0.5, 0.65), (1.0, 1.0)),
        area=0.69,
    )
    losses = replace(
        updates,
        attack=alone.attack,
        threat_model="black_box",
        roc=((0.0, 0.0), (0.5, 0.55), (1.0, 1.0)),
        claimed_curve=(),
        area=0.525,
    )
    return CanaryEvidence(
        bounds=(
            bound,
            replace(bound, interval=replace(bound.interval, confidence=0.9995), decides=True),
            alone,
        ),
        tests=(test,),
        contradicts_claim=True,
        alternatives=(Alternative(name="noise 10 % too small", power=1.0, steps_needed=0, of_interest=True),),
        scores=(updates, losses),
        mechanism=(
            MechanismRow(
                tensor="0.weight",
                observations=5000,
                noise_ratio=0.5,
                noise_low=0.49,
                noise_high=0.51,
                sensitivity=1.0,
                sensitivity_low=0.98,
                sensitivity_high=1.02,
            ),
            MechanismRow(tensor="0.bias", observations=64, noise_ratio=0.52, noise_low=0.44, noise_high=0.62),
        ),
        setting=(("Model", "mlp"), ("Data", "digits"), ("Steps", "100")),
        plan="sha256:" + "a" * 64,
        notes=("Canaries are one-hot registers.",),
    )


def sample_report() -> AuditReport:
    """Build the report."""
    test = HypothesisTest(
        rule="DPA110",
        name="overlap of near steps",
        null_hypothesis="steps share records as independent draws would",
        statistic=0.0,
        p_value=1e-40,
        adjusted_p_value=1e-39,
        rejected=True,
        effect=-1.0,
        effect_unit="relative",
        detectable_effect=0.05,
    )
    observed = ObservedScheme(
        scheme=Shuffle(50),
        description="shuffled epochs of 20 batches of 50",
        rejects_poisson=True,
        contradicts_claim=True,
        tests=(test,),
        compatible=(Shuffle(50), Shuffle(50, drop_last=True)),
        rate=RateEstimate(claimed=0.05, estimate=0.05, low=0.0497, high=0.0503),
        alternatives=(
            Alternative(name="a rate error of 1 %", power=0.1, steps_needed=900, of_interest=False),
        ),
        steps=400,
        num_records=1000,
        draws=20_000,
        family_wise_error=1e-3,
        notes=("Several schemes remain.",),
    )
    common = {"delta": 1e-5, "adjacency": "zero_out"}
    shuffled = EpsilonInterval(
        lower=4.1,
        upper=float("inf"),
        scheme=Shuffle(50),
        method="max statistic",
        reference="arXiv:1",
        **common,
    )
    claimed = EpsilonInterval(lower=1.98, upper=1.99, scheme=Poisson(0.05), method="pld", **common)
    evidence = Evidence(
        observed=observed,
        claimed=claimed,
        observed_interval=shuffled,
        open_intervals=(shuffled, shuffled),
        canary=_canary_evidence(),
    )
    claim = PrivacyClaim(epsilon=2.0, delta=1e-5, scheme=Poisson(0.05), epochs=10)
    return AuditReport(
        kind="sampler",
        title="Digits, shuffled",
        target="loaders/shuffled.py",
        claim=claim,
        evidence=evidence,
        assumed=False,
        verdict=decide(claim, evidence),
        fields=_fields(),
        advice=("Draw Poisson batches.", "Or raise the noise multiplier to 3.1."),
        summary=TraceSummary(
            batch_sizes=((50, 400),),
            batch_size_bin=1,
            inclusions=((20, 1000),),
            inclusion_bin=1,
            overlaps=tuple((lag, 50.0 * lag, 1000.0 - lag) for lag in range(1, 41)),
            epoch=20,
            places=((0.9, 1.1), (1.1, 0.9)),
        ),
        provenance=Provenance(
            dpaudit="0.1.0",
            python="3.11.7",
            platform="Linux",
            packages={"numpy": "2"},
            created="2026-01-01T00:00:00+00:00",
            command=("dpaudit", "sampler", "a b.py"),
            seed=0,
            git_commit="0" * 40,
            git_dirty=True,
            input_sha256={"a b.py": "f" * 64},
        ),
        notes=("400 steps were watched.",),
        curves=_curves(),
    )


def canary_report() -> AuditReport:
    """Build the same claim's report where only canaries looked at it, and nothing spoke against it."""
    report, canary = sample_report(), _canary_evidence()
    weak = tuple(replace(bound, interval=replace(bound.interval, lower=0.8)) for bound in canary.bounds)
    fine = tuple(replace(test, p_value=0.4, adjusted_p_value=1.0, rejected=False) for test in canary.tests)
    evidence = Evidence(
        claimed=report.evidence.claimed,
        canary=replace(canary, bounds=weak, tests=fine, contradicts_claim=False),
    )
    return replace(
        report,
        kind="canary",
        title="Digits, trained with canaries",
        target="audits/canaries.toml",
        evidence=evidence,
        verdict=decide(report.claim, evidence),
        advice=(),
        summary=None,
        curves=report.curves[:1],
    )


def _curves() -> tuple[EpsilonSeries, ...]:
    claimed = EpsilonSeries(
        role="claimed", scheme="poisson", axis="delta", at=(1e-6, 1e-5), lower=(2.3, 1.98), upper=(2.4, 1.99)
    )
    steps = {"axis": "steps", "at": (20.0, 100.0, 200.0)}
    return (
        claimed,
        replace(claimed, role="observed", scheme="shuffle", lower=(4.8, 4.1), upper=(float("inf"),) * 2),
        replace(claimed, **steps, lower=(0.7, 1.4, 1.98), upper=(0.71, 1.41, 1.99)),
        replace(
            claimed, role="observed", scheme="shuffle", **steps, lower=(2.0, 3.0, 4.1), upper=(5.0, 7.0, 9.0)
        ),
    )
