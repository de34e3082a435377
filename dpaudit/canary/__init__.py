"""Canary audits: scores of inserted canaries in, lower bounds on epsilon out.

Three ways in, by what was recorded:

- `ESTIMATORS`, from one score per canary (`CanaryScores`, or a file by `read_scores`);
- `per_step_tests`, `claim_gate` (with `ErrorBudget` over reruns) and `per_step_lower_bound`, from
  every released update at the canaries' coordinates (`StepObservations`);
- `roc_curve`, to describe an attack without bounding anything.

Bounds are reported at any confidence; `deciding_confidences` says which of them may refute a claim, and
at what confidence, and `begin_attempt` and `settle_attempt` count the reruns of a gate in a file.

`gaussian_dp_lower_bound` assumes more than a claim says, and `credible_interval` is no confidence
bound; each says so in its result.
"""

from __future__ import annotations

from dpaudit.canary.claim_gate import GATE_SIGNIFICANCE, ClaimGate, claim_gate
from dpaudit.canary.claim_test import score_test
from dpaudit.canary.credible import CredibleInterval, credible_interval
from dpaudit.canary.deciding import PlannedBound, deciding_confidences
from dpaudit.canary.description import RocCurve, roc_curve
from dpaudit.canary.error_budget import ErrorBudget
from dpaudit.canary.estimator import Estimator, Validity
from dpaudit.canary.estimators import ESTIMATORS
from dpaudit.canary.gaussian_dp import gaussian_dp_lower_bound
from dpaudit.canary.likelihood_ratio import likelihood_ratio_scores, log_likelihood_ratios
from dpaudit.canary.observations import StepObservations
from dpaudit.canary.per_step import per_step_lower_bound, per_step_tests
from dpaudit.canary.plan import AuditPlan
from dpaudit.canary.scores_file import ScoresError, read_scores
from dpaudit.canary.spending_file import (
    Attempt,
    SpendingFileError,
    begin_attempt,
    read_budget,
    settle_attempt,
)

__all__ = [
    "ESTIMATORS",
    "GATE_SIGNIFICANCE",
    "Attempt",
    "AuditPlan",
    "ClaimGate",
    "CredibleInterval",
    "ErrorBudget",
    "Estimator",
    "PlannedBound",
    "RocCurve",
    "ScoresError",
    "SpendingFileError",
    "StepObservations",
    "Validity",
    "begin_attempt",
    "claim_gate",
    "credible_interval",
    "deciding_confidences",
    "gaussian_dp_lower_bound",
    "likelihood_ratio_scores",
    "log_likelihood_ratios",
    "per_step_lower_bound",
    "per_step_tests",
    "read_budget",
    "read_scores",
    "roc_curve",
    "score_test",
    "settle_attempt",
]
