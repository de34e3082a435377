"""Words for lower bounds from canaries, held against what the estimators themselves say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpaudit.audit_report import AuditReport
from dpaudit.canary import ESTIMATORS
from dpaudit.claim import PrivacyClaim
from dpaudit.report.view import build_view
from dpaudit.scheme import Poisson
from dpaudit.scores import CanaryScores

GAUSSIAN = PrivacyClaim(noise_multiplier=2.0, steps=1, scheme=Poisson(1.0))


@pytest.mark.parametrize(
    ("name", "claim", "words"),
    [
        ("one_run", GAUSSIAN, "fair coins alone"),
        ("one_run_f_dp", GAUSSIAN, "the claimed curve"),
        ("one_run_f_dp", PrivacyClaim(epsilon=1.0), "fair coins alone"),
        ("run_level_betting", GAUSSIAN, "the claimed curve"),
        ("run_level_student", GAUSSIAN, "the claimed curve, many runs"),
        ("area_under_curve", GAUSSIAN, "independent scores, the claimed curve"),
        ("clopper_pearson", GAUSSIAN, "independent scores"),
    ],
)
def test_bounds_of_every_estimator_name_all_that_they_assume(
    name: str, claim: PrivacyClaim, words: str, report: AuditReport
) -> None:
    rng = np.random.default_rng(3)
    included = rng.random(1000) < 0.5
    scores = CanaryScores(included=included, score=rng.normal(size=1000) + included, run=np.arange(1000) % 10)
    found = ESTIMATORS[name](scores, delta=1e-5, confidence=0.95, claim=claim)
    assert report.evidence.canary is not None
    sample = replace(report.evidence.canary.bounds[0], interval=found, validity=ESTIMATORS[name].validity)
    canary = replace(report.evidence.canary, bounds=(sample,))
    section = build_view(replace(report, evidence=replace(report.evidence, canary=canary))).canary
    assert [row.assumes for row in section.bounds] == [words]
    explained = [line.split(":")[0].lower() for line in section.legend]
    assert all(word in explained for word in words.split(", "))
