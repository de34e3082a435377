"""ESTIMATORS: every lower bound on epsilon that holds at its confidence, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dpaudit.canary.claim_test import claim_bound
from dpaudit.canary.estimator import Estimator
from dpaudit.canary.one_run import one_run_bound
from dpaudit.canary.one_run_f_dp import one_run_f_dp_bound
from dpaudit.canary.rank_bounds import area_bound, normal_score_bound
from dpaudit.canary.runs import betting_bound, student_bound
from dpaudit.canary.thresholds import clopper_pearson_bound, fair_coin_ratio_bound

_ALL = (
    Estimator(
        name="clopper_pearson",
        validity="iid",
        needs_claim=False,
        fair_coins=False,
        reference="arXiv:2006.07709",
        bound=clopper_pearson_bound,
    ),
    Estimator(
        name="fair_coin_ratio",
        validity="iid",
        needs_claim=False,
        fair_coins=True,
        reference="arXiv:2305.08846, Proposition 5.1",
        bound=fair_coin_ratio_bound,
    ),
    Estimator(
        name="one_run",
        validity="any_dependence",
        needs_claim=False,
        fair_coins=True,
        reference="arXiv:2305.08846, Theorem 5.2",
        bound=one_run_bound,
    ),
    Estimator(
        name="one_run_f_dp",
        validity="any_dependence",
        needs_claim=True,
        fair_coins=True,
        reference="arXiv:2410.22235, Theorem 4",
        bound=one_run_f_dp_bound,
    ),
    Estimator(
        name="area_under_curve",
        validity="iid",
        needs_claim=True,
        fair_coins=False,
        reference="arXiv:1905.02383, Theorem 2.10 (data processing)",
        bound=area_bound,
    ),
    Estimator(
        name="normal_scores",
        validity="iid",
        needs_claim=True,
        fair_coins=False,
        reference="arXiv:1905.02383, Theorem 2.10 (data processing)",
        bound=normal_score_bound,
    ),
    Estimator(
        name="run_level_student",
        validity="any_dependence",
        needs_claim=True,
        fair_coins=True,
        reference="arXiv:1905.02383, Theorem 2.10 (Blackwell); Student (1908)",
        bound=student_bound,
        asymptotic=True,
    ),
    Estimator(
        name="run_level_betting",
        validity="any_dependence",
        needs_claim=True,
        fair_coins=True,
        reference="arXiv:1905.02383, Proposition 2.12; arXiv:2010.09686, Theorem 3",
        bound=betting_bound,
    ),
    Estimator(
        name="claimed_mechanism",
        validity="claim",
        needs_claim=True,
        fair_coins=False,
        reference="arXiv:1905.02383, Theorem 2.10 (data processing)",
        bound=claim_bound,
    ),
)

ESTIMATORS: Mapping[str, Estimator] = MappingProxyType({estimator.name: estimator for estimator in _ALL})
