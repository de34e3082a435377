"""Training files: one TOML file that says what `dpaudit train` trains, on what, and how privately.

title = "Digits by DP-SGD"

[model]
name = "mlp"                       # or file = "my_model.py:build"
width = 64

[data]
name = "digits"                    # or file = "my_data.py:records"

[training]
scheme = { name = "poisson", batch_size = 256 }
steps = 300
delta = 1e-5
target_epsilon = 3.0               # or noise_multiplier = 1.0; both: stop before the target
clip_norm = 1.0
learning_rate = 1.0
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from dpaudit.errors import DpauditError, nearest_name
from dpaudit.scheme import ADJACENCIES, Adjacency
from dpaudit.toml_table import read_toml, refuse_unknown, subtable

DEMO = """\
title = "Digits by DP-SGD"

[model]
name = "mlp"
width = 64
depth = 1

[data]
name = "digits"

[training]
scheme = { name = "poisson", batch_size = 256 }
steps = 200
delta = 1e-5
target_epsilon = 3.0
clip_norm = 1.0
learning_rate = 1.0
seed = 0
"""
"""What `dpaudit train` without a file trains."""

_WORDS: dict[str, tuple[str, ...]] = {
    "adjacency": ADJACENCIES,
    "clip_function": ("abadi", "automatic"),
    "optimizer": ("sgd", "adam", "adamw"),
    "dtype": ("float32", "float64", "bfloat16"),
    "autocast": ("bfloat16", "float16"),
    "nonfinite": ("zero", "raise"),
}
_COUNTS = {"steps": 1, "physical_batch_size": 1, "checkpoint_every": 1, "seed": 0, "width": 1, "depth": 1,
           "classes": 1}  # fmt: skip
_ABOVE_ZERO = ("delta", "target_epsilon", "expected_batch_size", "learning_rate")
_NOT_NEGATIVE = ("noise_multiplier", "momentum", "weight_decay")
_FLAGS = ("fixed_shape", "compile", "secure_noise", "noise_ahead", "for_audit")
_TEXTS = ("name", "file", "loss", "clipping", "device", "checkpoint")
_Table = TypeVar("_Table")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A packaged model, or a function in a file that gives an nn.Module."""

    name: str | None = None
    file: str | None = None
    width: int = 64
    """Of the hidden layers of a packaged model."""
    depth: int = 1
    """Number of hidden layers of a packaged model."""
    classes: int | None = None
    """Outputs of a packaged model on data from a file; a public number."""
    loss: str = "cross_entropy"
    """"cross_entropy", "squared_error", or file.py:name of a function that gives one loss for each record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataChoice:
    """A packaged data set, or a name in a file: (inputs, targets) or a map-style data set."""

    name: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train."""

    scheme: Mapping[str, Any]
    """As in a claim file."""
    steps: int
    delta: float
    noise_multiplier: float | None = None
    target_epsilon: float | None = None
    """Calibrates the noise; where that is given too, training stops before the target is exceeded."""
    adjacency: Adjacency = "zero_out"
    expected_batch_size: float | None = None
    """What sums are divided by; None: the sampling rate times the number of records."""
    clip_norm: float | Mapping[str, float] = 1.0
    clipping: str = "bk_mix_opt"
    clip_function: Literal["abadi", "automatic"] = "abadi"
    groups: Literal["flat", "per_layer"] | Mapping[str, str] = "flat"
    nonfinite: Literal["zero", "raise"] = "zero"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    physical_batch_size: int | None = None
    fixed_shape: bool = False
    compile: bool = False
    device: str = "auto"
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    autocast: Literal["bfloat16", "float16"] | None = None
    secure_noise: bool = False
    noise_ahead: bool = False
    seed: int | None = None
    """Of weights, batches and noise; None: batches and noise nobody can guess."""
    checkpoint: str | None = None
    checkpoint_every: int = 100
    for_audit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFile:
    """The content of one training file."""

    path: Path | None
    """None for the embedded demo."""
    title: str
    model: ModelChoice
    data: DataChoice
    training: TrainingSettings


def read_training_file(path: Path) -> TrainingFile:
    """Read a training file.

    Raises:
      DpauditError: it is missing or not TOML, a key is unknown (the nearest is named), or a value is wrong.
    """
    return interpret(read_toml(path), path)


def interpret(content: Mapping[str, Any], path: Path | None) -> TrainingFile:
    """Check the content of a training file.

    Raises:
      DpauditError: a key is unknown, or a value is wrong.
    """
    try:
        refuse_unknown(content, ("title", "model", "data", "training"), "the file")
        training = _read(TrainingSettings, content, "training")
        if training.noise_multiplier is None and training.target_epsilon is None:
            raise DpauditError("[training] needs noise_multiplier or target_epsilon")
        if training.fixed_shape and training.physical_batch_size is None:
            raise DpauditError("fixed_shape needs physical_batch_size")
        model, data = _read(ModelChoice, content, "model"), _read(DataChoice, content, "data")
        for name, choice in (("model", model), ("data", data)):
            if (choice.name is None) == (choice.file is None):
                raise DpauditError(f"[{name}] needs either name or file")
        title = content.get("title", "Private training")
        return TrainingFile(path=path, title=str(title), model=model, data=data, training=training)
    except DpauditError as error:
        raise DpauditError(f"{path}: {error.message}" if path else error.message, error.hint) from error


def _read(kind: type[_Table], content: Mapping[str, Any], name: str) -> _Table:
    table = subtable(content, name)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    refuse_unknown(table, known, f"[{name}]")
    for key, value in table.items():
        _check(key, value)
    try:
        return kind(**table)
    except TypeError as error:  # a key without a default is not there
        missing = str(error).partition(": ")[2]
        raise DpauditError(f"[{name}] lacks {missing}") from error


def _check(key: str, value: Any) -> None:
    wanted = ""
    if key in _WORDS and value not in _WORDS[key]:
        hint = nearest_name(str(value), _WORDS[key]) or f"Known: {', '.join(_WORDS[key])}."
        raise DpauditError(f"unknown {key} {value!r}", hint)
    if key in _COUNTS and (not isinstance(value, int) or isinstance(value, bool) or value < _COUNTS[key]):
        wanted = f"a whole number >= {_COUNTS[key]}"
    elif key in _ABOVE_ZERO and not _above_zero(value):
        wanted = "a finite number above 0"
    elif key in _NOT_NEGATIVE and not (_above_zero(value) or (value == 0 and not isinstance(value, bool))):
        wanted = "a finite number >= 0"
    elif key in _FLAGS and not isinstance(value, bool):
        wanted = "true or false"
    elif key in _TEXTS and not isinstance(value, str):
        wanted = "a string"
    elif key == "delta" and value >= 1:
        wanted = "below 1"
    elif key == "scheme" and not isinstance(value, Mapping):
        wanted = 'a table, as in scheme = { name = "poisson", batch_size = 64 }'
    elif key == "groups" and not (value in ("flat", "per_layer") or _all_in(value, _is_text)):
        wanted = '"flat", "per_layer", or a table from parameter to the name of its group'
    elif key == "clip_norm" and not (_above_zero(value) or _all_in(value, _above_zero)):
        wanted = "a finite number above 0, or a table from group to such"
    if wanted:
        raise DpauditError(f"{key} = {value!r} must be {wanted}")


def _above_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _all_in(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and all(map(fits, value.values()))
