"""Thousands of small models at once: what an audit of many runs trains.

A bound that looks at the final model alone needs one training run for each canary score. Softmax regression
is the smallest model whose runs are those of DP-SGD in every respect: batches drawn by the scheme, gradients
clipped record by record, fresh Gaussian noise, one update a step. A thousand runs take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.scheme import Poisson, SamplingScheme, Shuffle
from dpaudit.scores import CanaryScores

# Runs handed to a thread at a time: long enough to forget the hand-over, short enough to stop soon.
_CHUNK = 16
# Keeps the streams of models apart from others that a caller makes from the same seed.
_STREAM = 0x6D6F64656C


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SmallData:
    """Records that every model trains on, and the canary that some train on besides.

    A column of ones among the features is the bias.

    Raises:
      ValueError: shapes do not fit, a label is out of range, or a feature is not finite.
    """

    features: npt.NDArray[np.floating[Any]]
    """Shape (records, d)."""
    labels: npt.NDArray[np.int64]
    """In 0..classes - 1, shape (records,)."""
    canary: npt.NDArray[np.floating[Any]]
    """Features of the canary, shape (d,)."""
    canary_label: int
    classes: int

    def __post_init__(self) -> None:
        features, canary = np.asarray(self.features), np.asarray(self.canary)
        labels = np.asarray(self.labels, np.int64)
        if features.ndim != 2 or labels.shape != features.shape[:1] or canary.shape != features.shape[1:]:
            raise ValueError(
                f"features {features.shape}, labels {labels.shape} and canary {canary.shape} do not fit: "
                "expected (records, d), (records,) and (d,)"
            )
        if not (np.isfinite(features).all() and np.isfinite(canary).all()):
            raise ValueError("features must be finite")
        known = np.append(labels, self.canary_label)
        if self.classes < 2 or known.min() < 0 or known.max() >= self.classes:
            raise ValueError(f"labels run from {known.min()} to {known.max()}, with {self.classes} classes")
        for name, value in (("features", features), ("labels", labels), ("canary", canary)):
            object.__setattr__(self, name, value)

    @property
    def records(self) -> int:
        """Number of records without the canary."""
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How every model is trained.

    Raises:
      ValueError: a value is out of range, or the scheme is neither Poisson sampling nor shuffling.
    """

    scheme: SamplingScheme
    """Poisson sampling (rate 1 is full batches), or shuffled epochs."""
    steps: int
    noise_multiplier: float
    learning_rate: float
    expected_batch_size: float
    """What noisy sums are divided by: public, the same with and without the canary."""
    clip_norm: float = 1.0
    double: bool = False
    """Train in float64 instead of float32."""

    def __post_init__(self) -> None:
        if not isinstance(self.scheme, Poisson | Shuffle) or getattr(self.scheme, "drop_last", False):
            raise ValueError(f"many models train on Poisson batches or whole epochs, not {self.scheme!r}")
        if not getattr(self.scheme, "reshuffled_each_epoch", True):
            raise ValueError("many models reshuffle each epoch")
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps} must be at least 1")
        if not (self.noise_multiplier >= 0 and math.isfinite(self.noise_multiplier)):
            raise ValueError(f"noise_multiplier = {self.noise_multiplier!r} must be finite and not negative")
        for name in ("learning_rate", "expected_batch_size", "clip_norm"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} = {value!r} must be positive")


def train_many(
    data: SmallData,
    recipe: Recipe,
    included: npt.ArrayLike,
    *,
    seed: int,
    first: int = 0,
    workers: int = 1,
) -> npt.NDArray[np.floating[Any]]:
    """Train one softmax regression for each entry of `included`, from zero weights.

    Model k draws from a stream of its own, made from `seed` and `first + k` alone: neither the number of
    models, nor how they are cut into calls or spread over threads, changes any of them. An audit that was
    interrupted goes on with `first`.

    Args:
      data: records and canary.
      recipe: how to train.
      included: whether the canary is among the records, bool (models,), by fair coins drawn after everything
        else is fixed; they must not come from `seed`'s stream.
      seed: of all batches and all noise.
      first: number of the first model.
      workers: threads.

    Returns:
      Weights, shape (models, d, classes).
    """
    from dpaudit.dpsgd.many_models_kernel import POISSON, SHUFFLE, train

    dtype = np.float64 if recipe.double else np.float32
    chosen = np.asarray(included, np.bool_).ravel()
    features = np.ascontiguousarray(np.vstack((data.features, data.canary)), dtype)
    labels = np.append(data.labels, data.canary_label)
    scheme, rate, size = POISSON, 1.0, 1
    if isinstance(recipe.scheme, Poisson):
        rate = recipe.scheme.rate
    elif isinstance(recipe.scheme, Shuffle):
        scheme, size = SHUFFLE, recipe.scheme.batch_size
    weights = np.zeros((len(chosen), features.shape[1], data.classes), dtype)
    noise = dtype(recipe.noise_multiplier * recipe.clip_norm)
    step_size = dtype(recipe.learning_rate / recipe.expected_batch_size)

    def train_chunk(models: range) -> None:
        for model in models:
            stream = np.random.SeedSequence(seed, spawn_key=(_STREAM, first + model))
            rng = np.random.Generator(np.random.SFC64(stream))
            records = data.records + int(chosen[model])
            train(
                rng, features[:records], labels[:records], weights[model], scheme, rate, size,
                recipe.steps, dtype(recipe.clip_norm), noise, step_size,
            )  # fmt: skip

    if workers == 1:
        train_chunk(range(len(chosen)))
        return weights
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(train_chunk, _chunks(len(chosen))))
    return weights


def black_box_scores(
    data: SmallData, weights: npt.NDArray[np.floating[Any]], included: npt.ArrayLike
) -> CanaryScores:
    """Score each model by minus its loss on the canary: all that a black-box attack looks at.

    Every score comes from a training run of its own, so scores are independent by construction.

    Args:
      data: with the canary.
      weights: from `train_many`, shape (models, d, classes).
      included: as passed there.
    """
    logits = np.einsum("d,mdk->mk", data.canary.astype(np.float64), weights.astype(np.float64))
    largest = logits.max(axis=1)
    normaliser = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return CanaryScores(
        included=np.asarray(included, np.bool_),
        score=logits[:, data.canary_label] - normaliser,
        run=np.arange(len(weights)),
        attack="loss of the final model on the canary",
    )


def dead_feature_canary(
    features: npt.NDArray[np.floating[Any]], *, norm: float = 2.0
) -> npt.NDArray[np.float64]:
    """Craft the input that final losses tell most about: alive only where every record is zero.

    Its gradient touches weights that no record touches, and with a norm of about two clip norms it stays
    clipped, in nearly the same direction, from the first step to the last: the loss then falls and rises
    with the plain sum of the canary's participations and the noise. A larger norm makes the model swing; a
    smaller one lets the gradient sink below the clip norm as the canary is learnt.

    Args:
      features: shape (records, d).
      norm: Euclidean, in units of the clip norm.

    Raises:
      ValueError: every feature is alive somewhere.
    """
    dead = ~np.asarray(features != 0).any(axis=0)
    if not dead.any():
        raise ValueError("no feature is zero in all records; append one that is")
    return np.asarray(dead * (norm / math.sqrt(np.count_nonzero(dead))))


def _chunks(models: int) -> Iterator[range]:
    for start in range(0, models, _CHUNK):
        yield range(start, min(start + _CHUNK, models))
