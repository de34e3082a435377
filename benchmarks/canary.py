"""Canary bounds: time against jax_privacy on the same scores, tightness against the true epsilon.

Times are the least CPU time of three audits of fresh scores, from raw scores to the bound, after one
audit to warm up, whose time is given too. Without
jax_privacy installed only the tightness is measured.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.canary import (
    ESTIMATORS,
    AuditPlan,
    StepObservations,
    gaussian_dp_lower_bound,
    likelihood_ratio_scores,
    per_step_lower_bound,
)
from dpaudit.canary.family import GaussianFamily, SubsampledGaussianFamily
from dpaudit.claim import PrivacyClaim
from dpaudit.scheme import Poisson
from dpaudit.scores import CanaryScores

RESULT = Path(__file__).parent / "results" / "canary.json"
DELTA, CONFIDENCE = 1e-5, 0.95
SHIFT = 1.5  # mu of the Gaussian mechanism that both libraries audit: epsilon 7.05
THRESHOLD = 3.2  # fixed for both: about where one threshold shows most of it
RATE, STEPS = 0.1, 100
# Ten runs, for the bounds over runs; 80,000 canaries in all, for 0.93 of epsilon 1 end to end.
RUNS, CANARIES = 10, 8000
NOISE = {1: 3.9421, 2: 2.262, 4: 1.386, 8: 0.9359}

Bound = Callable[[CanaryScores], float]


def least_time(call: Bound, samples: list[CanaryScores]) -> tuple[float, float]:
    """Give the median result and the least CPU seconds over fresh scores: no call repeats another."""
    seconds, results = math.inf, []
    for scores in samples:
        start = time.process_time()
        results.append(float(call(scores)))
        seconds = min(seconds, time.process_time() - start)
    return float(np.median(results)), seconds


def gaussian_scores(rng: np.random.Generator, canaries: int, shift: float, runs: int = 1) -> CanaryScores:
    included = rng.random(canaries * runs) < 0.5
    return CanaryScores(
        included=included,
        score=rng.normal(size=len(included)) + shift * included,
        run=np.repeat(np.arange(runs), canaries),
    )


def gaussian_claim(shift: float) -> PrivacyClaim:
    return PrivacyClaim(scheme=Poisson(1.0), noise_multiplier=1 / shift, steps=1)


def ours() -> dict[str, Bound]:
    claim, plan = gaussian_claim(SHIFT), AuditPlan(threshold=THRESHOLD)

    def estimate(name: str, plan: AuditPlan | None = None) -> Bound:
        return lambda scores: (
            ESTIMATORS[name](scores, delta=DELTA, confidence=CONFIDENCE, claim=claim, plan=plan).lower
        )

    return {
        "clopper_pearson, fixed threshold": estimate("clopper_pearson", plan),
        "gaussian_dp": lambda scores: (
            gaussian_dp_lower_bound(scores, threshold=SHIFT / 2, delta=DELTA, confidence=CONFIDENCE).lower
        ),
        "one_run": estimate("one_run"),
        "one_run_f_dp": estimate("one_run_f_dp"),
        "clopper_pearson, learnt threshold": estimate("clopper_pearson"),
        "fair_coin_ratio": estimate("fair_coin_ratio"),
        "area_under_curve": estimate("area_under_curve"),
        "normal_scores": estimate("normal_scores"),
        "claimed_mechanism": estimate("claimed_mechanism"),
        "run_level_student": lambda scores: estimate("run_level_student")(in_runs(scores)),
        "run_level_betting": lambda scores: estimate("run_level_betting")(in_runs(scores)),
    }


def in_runs(scores: CanaryScores) -> CanaryScores:
    """Cut the same scores into RUNS runs."""
    run = np.arange(scores.canaries) * RUNS // scores.canaries
    return CanaryScores(included=scores.included, score=scores.score, run=run)


def theirs() -> dict[str, Bound]:
    try:
        from jax_privacy import auditing
    except ImportError:
        return {}

    def audit(method: str, **options: Any) -> Bound:
        def call(scores: CanaryScores) -> float:
            present, absent = scores.score[scores.included], scores.score[~scores.included]
            auditor = auditing.CanaryScoreAuditor(present, absent)
            return float(getattr(auditor, method)(1 - CONFIDENCE, DELTA, **options))

        return call

    # All thresholds with Bonferroni take minutes for one_run at 1e6; a split is its quick way.
    split = auditing.Split(seed=0)
    return {
        "clopper_pearson, fixed threshold": audit(
            "epsilon_clopper_pearson", threshold_strategy=auditing.Explicit(THRESHOLD)
        ),
        "gaussian_dp": audit("epsilon_from_gdp"),
        "one_run": audit("epsilon_one_run", threshold_strategy=split),
        "one_run_f_dp": audit("epsilon_one_run_fdp"),
    }


def compare_times() -> list[dict[str, Any]]:
    rows, peers = [], theirs()
    for canaries in (10**5, 10**6):
        warm_up, *samples = (
            gaussian_scores(np.random.default_rng(seed), canaries, SHIFT) for seed in range(4)
        )
        for name, call in ours().items():
            _, first = least_time(call, [warm_up])
            lower, seconds = least_time(call, samples)
            row: dict[str, Any] = {
                "bound": name,
                "canaries": canaries,
                "lower": lower,
                "milliseconds": 1e3 * seconds,
                "first_call_milliseconds": 1e3 * first,
            }
            if name in peers:
                least_time(peers[name], [warm_up])
                peer_lower, peer_seconds = least_time(peers[name], samples)
                row |= {
                    "jax_privacy_lower": peer_lower,
                    "jax_privacy_milliseconds": 1e3 * peer_seconds,
                    "times_faster": peer_seconds / seconds,
                }
            rows.append(row)
            print(json.dumps(row))
    return rows


def score_tightness(repeats: int = 50) -> list[dict[str, Any]]:
    """Median bound over true epsilon on Gaussian scores: one run of m, and ten runs."""
    rng, rows = np.random.default_rng(1), []
    for epsilon, shift in {1: 0.26843, 4: 0.92478, 8: 1.66628}.items():
        truth = GaussianFamily().epsilon(math.log(shift), DELTA)[0]
        for canaries, runs in ((1000, 1), (10_000, 1), (1000, 10), (CANARIES, RUNS)):
            samples = [gaussian_scores(rng, canaries, shift, runs) for _ in range(repeats)]
            row: dict[str, Any] = {"mechanism": "gaussian", "epsilon": truth, "m": canaries, "runs": runs}
            for name, estimator in ESTIMATORS.items():
                if name.startswith("run_level") != (runs > 1) or name == "claimed_mechanism":
                    continue
                lowers = [
                    estimator(sample, delta=DELTA, confidence=CONFIDENCE, claim=gaussian_claim(shift)).lower
                    for sample in samples
                ]
                row[name] = float(np.median(lowers)) / truth
            rows.append(row)
            print(epsilon, json.dumps(row))
    return rows


def simulated_run(rng: np.random.Generator, canaries: int, noise: float) -> StepObservations:
    """What one run releases at register canaries, whose coordinates no record touches."""
    included = rng.random(canaries) < 0.5
    participated = (rng.random((STEPS, canaries), dtype=np.float32) < RATE) & included
    value = rng.standard_normal((STEPS, canaries), dtype=np.float32) * np.float32(noise) + participated
    return StepObservations(value=value, participated=participated, included=included)


def per_step_rows(observations: StepObservations, claim: PrivacyClaim) -> dict[str, float]:
    return {
        label: per_step_lower_bound(
            observations,
            claim,
            delta=DELTA,
            confidence=CONFIDENCE,
            **options,  # type: ignore[arg-type]
        ).lower
        for label, options in (
            ("per step, all estimated", {}),
            ("per step, sensitivity known", {"sensitivity": "claimed"}),
            ("per step, sensitivity and rate known", {"sensitivity": "claimed", "rate": "claimed"}),
        )
    }


def step_tightness(repeats: int = 20) -> list[dict[str, Any]]:
    """Median bound over true epsilon from RUNS simulated runs of CANARIES canaries each.

    The per-step bounds take one run with as many canaries as all runs have together.
    """
    rng, rows = np.random.default_rng(2), []
    for epsilon, noise in NOISE.items():
        claim = PrivacyClaim(scheme=Poisson(RATE), noise_multiplier=noise, steps=STEPS)
        truth = SubsampledGaussianFamily(RATE, STEPS).epsilon(-math.log(noise), DELTA)[0]
        found: dict[str, list[float]] = {}
        seconds = {"per step": math.inf, "end to end": math.inf}
        for _ in range(repeats):
            observations = simulated_run(rng, CANARIES * RUNS, noise)
            start = time.process_time()
            for label, lower in per_step_rows(observations, claim).items():
                found.setdefault(label, []).append(lower)
            seconds["per step"] = min(seconds["per step"], time.process_time() - start)
            start = time.process_time()
            pooled = likelihood_ratio_scores(observations, rate=RATE, noise_multiplier=noise)
            scores = CanaryScores(
                included=pooled.included, score=pooled.score, run=np.repeat(np.arange(RUNS), CANARIES)
            )
            for name in ("area_under_curve", "normal_scores", "run_level_student", "one_run_f_dp", "one_run"):
                bound = ESTIMATORS[name](scores, delta=DELTA, confidence=CONFIDENCE, claim=claim)
                found.setdefault(f"likelihood ratio, {name}", []).append(bound.lower)
            seconds["end to end"] = min(seconds["end to end"], time.process_time() - start)
        row: dict[str, Any] = {
            "mechanism": "subsampled gaussian",
            "epsilon": truth,
            "m": CANARIES,
            "runs": RUNS,
        }
        row |= {label: float(np.median(lowers)) / truth for label, lowers in found.items()}
        row |= {f"seconds, {label}": value for label, value in seconds.items()}
        rows.append(row)
        print(epsilon, json.dumps(row))
    return rows


PARTS = {"times": compare_times, "scores": score_tightness, "steps": step_tightness}


def main(parts: list[str]) -> None:
    """Measure the named parts, or all; the figures of the others stay."""
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    for name in parts or PARTS:
        result[name] = PARTS[name]()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps({name: result[name] for name in PARTS if name in result}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
