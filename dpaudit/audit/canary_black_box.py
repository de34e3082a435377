"""The black-box part of a canary audit: hundreds of small models, and the final loss of one canary."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dpaudit.audit.canary_runs import load_kept_scores, save_scores
from dpaudit.scheme import scheme_from_json
from dpaudit.scores import CanaryScores

if TYPE_CHECKING:
    from dpaudit.dpsgd.canaries import RunPlan
    from dpaudit.dpsgd.many_models import Recipe, SmallData

# Records of each small model: enough for a realistic sum, few enough for seconds.
RECORDS = 200
_STEP = 0.5
_CHUNK = 500
_ATTACK = "final loss of a crafted record"
# Tells the stream of the coins from those that train.
_COINS = 7

Progress = Callable[[int, int], None]


def final_loss_scores(
    plan: RunPlan,
    models: int,
    *,
    jobs: int = 0,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> CanaryScores:
    """Train softmax regressions with and without a crafted canary, and score each by the canary's loss.

    Each model is a run of its own, so the scores are independent by construction.

    Args:
      plan: of the audit: data, scheme, noise, steps and seed are taken from it.
      models: how many; each includes the canary by a fair coin.
      jobs: threads; 0: one for each processor.
      directory: finished parts are kept here; None keeps none.
      progress: called with (models done, models wanted).

    Raises:
      DpauditError: the data cannot be had.
      ValueError: the scheme is one that small models are not trained by.
    """
    from dpaudit.dpsgd.many_models import black_box_scores, train_many

    data, recipe = crafted_data(plan), recipe_of(plan)
    # The coins come last, from a stream that trains nothing.
    coins = np.random.default_rng(np.random.SeedSequence([plan.seed, _COINS])).random(models) < 0.5
    scores: list[npt.NDArray[np.float64]] = []
    for start in range(0, models, _CHUNK):
        part = slice(start, min(start + _CHUNK, models))
        found = load_kept_scores(plan, part, directory)
        if found is None:
            weights = train_many(
                data, recipe, coins[part], seed=plan.seed, first=start, workers=jobs or os.cpu_count() or 1
            )
            found = black_box_scores(data, weights, coins[part]).score
            save_scores(plan, part, found, directory)
        scores.append(found)
        if progress is not None:
            progress(part.stop, models)
    return CanaryScores(included=coins, score=np.concatenate(scores), run=np.arange(models), attack=_ATTACK)


def crafted_data(plan: RunPlan) -> SmallData:
    """Take the first records of the plan's data, and craft the canary from features that they never use.

    Where every feature is used, one that is not is appended.
    """
    from dpaudit.dpsgd.canaries.data import load_data
    from dpaudit.dpsgd.many_models import SmallData, dead_feature_canary

    data = load_data(plan.data)
    features = data.features[:RECORDS].reshape(min(RECORDS, len(data.labels)), -1)
    used = (features != 0).any(axis=0)
    spare = np.zeros((len(features), int(used.all())), np.float32)
    features = np.column_stack((features, spare, np.ones(len(features), np.float32)))
    return SmallData(
        features=features,
        labels=data.labels[: len(features)],
        canary=dead_feature_canary(features),
        canary_label=0,
        classes=data.classes,
    )


def recipe_of(plan: RunPlan) -> Recipe:
    """Train as the plan does; fixed sizes follow the small models' number of records."""
    from dpaudit.dpsgd.many_models import Recipe

    record = dict(plan.scheme)
    if record["name"] == "shuffle" and "batch_size" not in record:
        record["batch_size"] = max(1, round(plan.rate * RECORDS))
    return Recipe(
        scheme=scheme_from_json(record),
        steps=plan.steps,
        noise_multiplier=plan.noise_multiplier,
        learning_rate=_STEP,
        expected_batch_size=plan.rate * RECORDS,
    )
