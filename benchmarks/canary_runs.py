"""Canary audits of real trainings: bounds at 95 % over the true epsilon, faults that are caught, time.

The reference DP-SGD on handwritten digits, one core; seconds are CPU seconds of training and of the audit.

    python benchmarks/canary_runs.py            # everything
    python benchmarks/canary_runs.py faults     # one part: tightness, faults or demo
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit import accounting
from dpaudit.audit.canary import audit_canaries, likelihood_scores
from dpaudit.audit.canary_file import DEMO_CLAIM, demo
from dpaudit.audit.canary_plan import plan_of
from dpaudit.audit.canary_runs import run_all
from dpaudit.audit.canary_settings import FAULTS
from dpaudit.audit.canary_tests import releases_of
from dpaudit.canary import ESTIMATORS, per_step_lower_bound
from dpaudit.claim import PrivacyClaim
from dpaudit.scores import CanaryScores

RESULT = Path(__file__).parent / "results" / "canary_runs.json"
DELTA, CONFIDENCE, RUNS, CANARIES = 1e-5, 0.95, 10, 8000
NOISE = {1: 3.9421, 2: 2.262, 4: 1.386, 8: 0.9359}


def true_epsilon(claim: PrivacyClaim) -> float:
    return accounting.epsilon(
        claim.scheme,
        noise_multiplier=claim.noise_multiplier,
        steps=claim.steps,
        num_records=1797,
        delta=DELTA,
    ).upper


def tightness(repeats: int = 3) -> list[dict[str, Any]]:
    rows = []
    for target, noise in NOISE.items():
        claim = replace(DEMO_CLAIM, epsilon=float(target), noise_multiplier=noise)
        found = [measured_once(claim, seed) for seed in range(repeats)]
        row = {name: float(np.median([one[name] for one in found])) for name in found[0]}
        rows.append({"epsilon": true_epsilon(claim), "runs": RUNS, "canaries": CANARIES, **row})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def measured_once(claim: PrivacyClaim, seed: int) -> dict[str, float]:
    """Train ten runs; give every bound over the true epsilon, and the CPU seconds that each takes."""
    settings = replace(demo().settings, designs=("register",), canaries=CANARIES, jobs=1, seed=seed)
    plan, epsilon = plan_of(replace(demo(), claim=claim, settings=settings), claim), true_epsilon(claim)
    run_all(replace(plan, steps=2, registers=10), 1, jobs=1)  # imports and compiles
    start = time.process_time()
    runs = run_all(plan, RUNS, jobs=1)
    trained = time.process_time() - start
    scores = likelihood_scores(runs, claim)
    first = scores.run == 0
    one = CanaryScores(included=scores.included[first], score=scores.score[first])
    parts = {
        "per step, one run": (1, lambda: step_bound(runs[:1], claim)),
        "per step, one run, nothing checked apart": (1, lambda: step_bound(runs[:1], claim, "estimated")),
        "end to end, iid": (RUNS, lambda: bound("area_under_curve", scores, claim)),
        "ten runs, any dependence": (RUNS, lambda: bound("run_level_student", scores, claim)),
        "one run, any dependence": (1, lambda: bound("one_run_f_dp", one, claim)),
    }
    row = {}
    for label, (count, compute) in parts.items():
        start = time.process_time()
        row[label] = compute() / epsilon
        row[f"{label}: seconds"] = time.process_time() - start + trained * count / RUNS
    return row


def bound(name: str, scores: CanaryScores, claim: PrivacyClaim) -> float:
    return ESTIMATORS[name](scores, delta=DELTA, confidence=CONFIDENCE, claim=claim).lower


def step_bound(runs: list[Any], claim: PrivacyClaim, measured: Any = "claimed") -> float:
    observations = releases_of(runs).observations
    return per_step_lower_bound(
        observations, claim, delta=DELTA, confidence=CONFIDENCE, rate=measured, sensitivity=measured
    ).lower


def faults() -> list[dict[str, Any]]:
    """Find the fewest steps of one run of 150 register canaries and 32 in each tensor that show a fault."""
    rows = []
    samplers = [{"sampler": "shuffle"}, {"sampler": "fixed_size"}]
    noises = [{"noise_multiplier": DEMO_CLAIM.noise_multiplier * share} for share in (0.9, 0.95)]
    for change in ({}, *({"fault": name} for name in FAULTS), *samplers, *noises):
        for steps in (2, 5, 10, 20, 50):
            report = one_audit(steps=steps, **change)
            found = report.evidence.canary
            against = report.verdict.outcome.value in ("refuted", "unsupported")
            if against or (found.rejections and change.get("fault") == "noise_times_batch"):
                break
        row = {
            **change,
            "steps": steps,
            "verdict": report.verdict.outcome.value,
            "rejected": sorted({test.rule for test in found.rejections}),
        }
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def one_audit(**change: Any) -> Any:
    small = {"runs": 1, "canaries": 150, "per_tensor": 32, "inputs": 2, "black_box": 0, "jobs": 1, "seed": 5}
    file = demo()
    return audit_canaries(replace(file, settings=replace(file.settings, **{**small, **change})), command=[])


def embedded_demo() -> list[dict[str, Any]]:
    rows = []
    for model in ("mlp", "cnn"):
        file = demo(model)
        file = replace(file, settings=replace(file.settings, jobs=1, seed=1))
        start = time.process_time()
        report = audit_canaries(file, command=[])
        seconds = time.process_time() - start
        bounds = {
            f"{one.threat_model}: {one.interval.method}, {one.interval.confidence:g}": one.interval.lower
            for one in report.evidence.canary.bounds
        }
        row = {"model": model, "cpu_seconds": seconds, "limit_seconds": 240, "bounds": bounds}
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


PARTS = {"tightness": tightness, "faults": faults, "demo": embedded_demo}


def main(names: list[str]) -> None:
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in names or PARTS:
        result[name] = PARTS[name]()
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
