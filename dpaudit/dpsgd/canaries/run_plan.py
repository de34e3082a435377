"""RunPlan: everything that decides one canary run, so that the run can be made again and known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dpaudit._version import __version__
from dpaudit.dpsgd.canaries.faults import FAULTS, Fault
from dpaudit.dpsgd.canaries.records import INPUT_KINDS, InputKind

Optimizer = Literal["sgd", "momentum", "adamw"]
Reading = Literal["gradient", "parameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """Settings of the runs of one audit; `run` tells them apart.

    Raises:
      ValueError: a value is out of range or unknown.
    """

    model: str = "mlp"
    """"mlp", "cnn", or the user's "file.py:build"."""
    data: str = "digits"
    scheme: Mapping[str, Any]
    """The sampling that really runs, as `scheme_to_json` writes it; a batch size may be left out."""
    rate: float
    """Claimed sampling rate; the expected batch size is this share of the ordinary records."""
    noise_multiplier: float
    """That really runs."""
    clip_norm: float = 1.0
    """Claimed."""
    steps: int
    learning_rate: float = 0.5
    optimizer: Optimizer = "sgd"
    read: Reading = "gradient"
    registers: int = 1000
    per_tensor: int = 64
    inputs: int = 0
    """Input canaries of each kind."""
    input_kinds: tuple[InputKind, ...] = INPUT_KINDS
    fault: Fault | None = None
    train: str = ""
    """The user's own training, "file.py:train"; empty: the reference DP-SGD."""
    records: Literal["real", "silent"] = "real"
    seed: int
    sources: Mapping[str, str] = field(default_factory=dict)
    """Hashes of the files that the runs depend on, by name."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("registers", 0), ("per_tensor", 0), ("inputs", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {least}")
        if self.registers + self.per_tensor == 0:
            raise ValueError("no canaries: registers and per_tensor are both 0")
        for name in ("noise_multiplier", "clip_norm", "learning_rate"):
            if not getattr(self, name) > 0 and not (name == "noise_multiplier" and getattr(self, name) == 0):
                raise ValueError(f"{name} = {getattr(self, name)} must be positive")
        if self.fault is not None and self.fault not in FAULTS:
            raise ValueError(f"unknown fault {self.fault!r}; known: {', '.join(FAULTS)}")

    def fingerprint(self, run: int) -> str:
        """Hash the plan of one run, with the version of dpaudit that would run it."""
        content = {**asdict(self), "run": run, "dpaudit": __version__}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
