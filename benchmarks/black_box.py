"""Black-box audits of many real runs: final losses of small models with and without a crafted record.

Softmax regression on 200 digits; one core; bounds at 95 %, over the true epsilon of the recipe. The bounds
hold for every attack and every model: they are inverted on the best attack that sees every step.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from dpaudit.canary import ESTIMATORS, roc_curve
from dpaudit.canary.family import claimed_leakage, family_of
from dpaudit.claim import PrivacyClaim
from dpaudit.dpsgd import Recipe, SmallData, black_box_scores, dead_feature_canary, train_many
from dpaudit.scheme import Poisson

RESULT = Path(__file__).parent / "results" / "black_box.json"
DELTA, CONFIDENCE = 1e-5, 0.95
RECORDS, STEPS, LEARNING_RATE = 200, 100, 0.5
# (rate, noise multiplier, models): epsilon 1, 4 and 8 at full batches, and at Poisson batches.
SETTINGS = (
    (1.0, 37.254, 8000),
    (1.0, 10.813, 4000),
    (1.0, 6.0014, 4000),
    (0.1, 3.9421, 20_000),
    (0.1, 1.386, 10_000),
    (0.1, 0.9359, 10_000),
)


def digits() -> SmallData:
    features, labels = load_digits(return_X_y=True)
    features = np.column_stack((features[:RECORDS] / 16, np.ones(RECORDS)))
    return SmallData(
        features=features,
        labels=labels[:RECORDS],
        canary=dead_feature_canary(features),
        canary_label=0,
        classes=10,
    )


def audit(data: SmallData, rate: float, noise: float, models: int, seed: int) -> dict[str, Any]:
    recipe = Recipe(
        scheme=Poisson(rate),
        steps=STEPS,
        noise_multiplier=noise,
        learning_rate=LEARNING_RATE,
        expected_batch_size=rate * RECORDS,
    )
    included = np.random.default_rng(seed).random(models) < 0.5
    start = time.process_time()
    weights = train_many(data, recipe, included, seed=seed)
    seconds = time.process_time() - start
    correct = (np.einsum("nd,mdk->mnk", data.features, weights[:50]).argmax(2) == data.labels).mean()
    scores = black_box_scores(data, weights, included)
    claim = PrivacyClaim(scheme=Poisson(rate), noise_multiplier=noise, steps=STEPS)
    family = family_of(claim, delta=DELTA)
    leakage = claimed_leakage(claim, family)
    assert leakage is not None
    epsilon = family.epsilon(leakage, DELTA)[0]
    row: dict[str, Any] = {
        "rate": rate,
        "epsilon": epsilon,
        "models": models,
        "cpu_seconds": seconds,
        "models_per_cpu_second": models / seconds,
        "accuracy": float(correct),
        "area": roc_curve(scores).area,
    }
    for name in ("normal_scores", "area_under_curve", "fair_coin_ratio"):
        found = ESTIMATORS[name](scores, delta=DELTA, confidence=CONFIDENCE, claim=claim)
        row[name] = found.lower / epsilon
    return row


def main(repeats: int = 3) -> None:
    data = digits()
    train_many(data, Recipe(scheme=Poisson(0.5), steps=1, noise_multiplier=1.0, learning_rate=1.0,
                            expected_batch_size=100.0), [True], seed=0)  # compiles  # fmt: skip
    rows = []
    for rate, noise, models in SETTINGS:
        audits = [audit(data, rate, noise, models, seed) for seed in range(repeats)]
        row = {name: float(np.median([one[name] for one in audits])) for name in audits[0]}
        rows.append(row)
        print(json.dumps(row), flush=True)
    RESULT.write_text(json.dumps({"rows": rows, "repeats": repeats}, indent=1) + "\n")


if __name__ == "__main__":
    main()
