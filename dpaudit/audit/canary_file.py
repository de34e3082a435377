"""Canary files: one TOML file that says what is claimed, and what canary runs shall hold it against.

kind = "canary"                    # optional beside [canary]
title = "Digits, MLP"
expected = "consistent"            # optional: the verdict that `dpaudit check` must reach

[claim]
epsilon = 4.0
delta = 1e-5
noise_multiplier = 1.386
clip_norm = 1.0
steps = 100
scheme = { name = "poisson", rate = 0.1 }

[canary]                           # every key is optional
model = "mlp"                      # or "cnn", "file.py:build"
data = "digits"                    # or "file.npz" with arrays features and labels
train = "my_pipeline.py:train"     # a training of one's own; left out: the reference DP-SGD
designs = ["register", "parameters", "blank", "mislabelled"]
canaries = 1000
runs = 10
sampler = "poisson"                # that really runs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dpaudit.audit.canary_settings import CanarySettings
from dpaudit.claim import PrivacyClaim
from dpaudit.claim_file import load_toml, resolve_beside, title_and_expected
from dpaudit.errors import ClaimError, DpauditError
from dpaudit.scheme import Poisson
from dpaudit.toml_table import refuse_unknown, subtable

_TOP_LEVEL = ("kind", "title", "expected", "claim", "canary")

# The demo's claim: one tenth of the digits a step, a hundred steps. The accountant gives epsilon 3.998.
DEMO_CLAIM = PrivacyClaim(
    epsilon=4.0,
    delta=1e-5,
    adjacency="add_or_remove_one",
    unit="record",
    scheme=Poisson(0.1),
    noise_multiplier=1.387,
    clip_norm=1.0,
    clipping="flat",
    steps=100,
    released="every_update",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryFile:
    """The content of one canary file."""

    path: Path | None = None
    """None for the embedded demo and for scores from outside."""
    title: str = ""
    expected: str | None = None
    claim: PrivacyClaim
    settings: CanarySettings = field(default_factory=CanarySettings)


def demo(model: str = "mlp") -> CanaryFile:
    """Give the audit that runs where no file is given."""
    return CanaryFile(
        title=f"Reference DP-SGD on handwritten digits ({model.upper()})",
        claim=DEMO_CLAIM,
        settings=CanarySettings(model=model, runs=10 if model == "mlp" else 3),
    )


def read_canary_file(path: Path) -> CanaryFile:
    """Read a canary file.

    Raises:
      ClaimError: the file is missing or not TOML, a key is unknown (the nearest known one is
        suggested), or a value is wrong. The message begins with the file's name.
    """
    content = load_toml(path)
    try:
        return _interpret(path, content)
    except (DpauditError, ValueError, TypeError) as error:
        message, hint = (error.message, error.hint) if isinstance(error, DpauditError) else (str(error), "")
        raise ClaimError(f"{path}: {message}", hint) from error


def _interpret(path: Path, content: Mapping[str, Any]) -> CanaryFile:
    refuse_unknown(content, _TOP_LEVEL, "the file")
    if content.get("kind", "canary") != "canary":
        raise ClaimError(f"kind = {content['kind']!r}: not a canary audit")
    title, expected = title_and_expected(content)
    table = dict(subtable(content, "canary"))
    refuse_unknown(table, [one.name for one in fields(CanarySettings)], "[canary]")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
    settings = CanarySettings(**given)
    return CanaryFile(
        path=path,
        title=title,
        expected=expected,
        claim=PrivacyClaim.from_table(subtable(content, "claim")),
        settings=replace(
            settings,
            model=_resolve(settings.model, path.parent),
            data=_resolve(settings.data, path.parent),
            train=_resolve(settings.train, path.parent),
        ),
    )


def _resolve(name: str, directory: Path) -> str:
    """Resolve a file against the canary file's directory; "mlp", "digits" and the like are none."""
    return resolve_beside(name, directory) if name.partition(":")[0].endswith((".py", ".npz")) else name
