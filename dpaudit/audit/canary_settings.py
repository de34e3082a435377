"""CanarySettings: the [canary] table of a canary file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpaudit.errors import ClaimError, nearest_name

# Names that the training side knows; written out here, so that a file is read without importing torch.
# A test holds them against the originals.
INPUT_DESIGNS = ("mislabelled", "blank", "out_of_distribution", "crafted", "natural")
DESIGNS = ("register", "parameters", *INPUT_DESIGNS)
FAULTS = (
    "half_noise", "noise_over_batch", "noise_times_batch", "layer_without_noise", "same_noise", "no_clipping",
    "double_clip",
)  # fmt: skip
SAMPLERS = ("poisson", "shuffle", "fixed_size", "sequential")
_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "momentum", "adamw"),
    "read": ("gradient", "parameters"),
    "records": ("", "real", "silent"),
    "fault": ("", *FAULTS),
}
_COUNTS = {"canaries": 1, "per_tensor": 1, "inputs": 1, "runs": 1, "black_box": 0, "seed": 0, "jobs": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySettings:
    """What is run, and how.

    Raises:
      ClaimError: a value is unknown, out of range or of the wrong type.
    """

    model: str = "mlp"
    data: str = "digits"
    train: str = ""
    """The user's own training, "file.py:train"; empty: the reference DP-SGD."""
    designs: tuple[str, ...] = ("register", "parameters", *INPUT_DESIGNS)
    canaries: int = 1000
    """In the register, in each run."""
    per_tensor: int = 64
    """In each parameter tensor, for the design "parameters"."""
    inputs: int = 20
    """Input canaries of each kind among the designs."""
    runs: int = 10
    black_box: int = 3000
    """Small models, trained at once, that a final-loss attack is tried on; 0: none."""
    steps: int | None = None
    """Steps of each run; None: as claimed."""
    sampler: str | Mapping[str, Any] = "poisson"
    """That really runs: a name, or a scheme as in a claim."""
    noise_multiplier: float | None = None
    """That really runs; None: as claimed."""
    learning_rate: float = 0.5
    optimizer: str = "sgd"
    read: str = "gradient"
    """What canaries are read from: the released gradient, or how the parameters moved."""
    records: str = ""
    """"real" or "silent"; empty: real for the reference DP-SGD, silent for a training of one's own."""
    fault: str = ""
    """A fault of the reference DP-SGD to switch on, to see it caught."""
    seed: int | None = None
    """None: drawn from the operating system, and reported."""
    significance: float = 1e-3
    """Probability that a true claim is refuted or left unsupported."""
    jobs: int = 0
    """Processes; 0: one for each processor."""

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            self._count(name, least, optional=name == "seed")
        self._count("steps", 1, optional=True)
        for name in ("noise_multiplier", "learning_rate", "significance"):
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, name, float(value))
            elif not isinstance(value, float) and not (value is None and name == "noise_multiplier"):
                raise ClaimError(f"{name} = {value!r} must be a number")
        if not 0 < self.significance <= 0.5:
            raise ClaimError(f"significance = {self.significance!r} must be in (0, 0.5]")
        if not self.learning_rate > 0:
            raise ClaimError(f"learning_rate = {self.learning_rate!r} must be positive")
        if self.noise_multiplier is not None and not self.noise_multiplier >= 0:
            raise ClaimError(f"noise_multiplier = {self.noise_multiplier!r} must not be negative")
        for name, known in _CHOICES.items():
            _require_known(name, getattr(self, name), known)
        if not isinstance(self.designs, tuple) or not set(self.designs) & {"register", "parameters"}:
            raise ClaimError(
                'designs needs "register" or "parameters": what is released is read there',
                f"Known: {', '.join(DESIGNS)}.",
            )
        for design in self.designs:
            _require_known("designs", design, DESIGNS)
        if isinstance(self.sampler, str):
            _require_known("sampler", self.sampler, SAMPLERS)

    @property
    def scheme(self) -> Mapping[str, Any]:
        """The scheme that runs, in JSON; sizes that the number of records decides are left out."""
        if not isinstance(self.sampler, str):
            return self.sampler
        extra = {"shuffle": {"reshuffled_each_epoch": True, "drop_last": False}}
        return {"name": self.sampler, **extra.get(self.sampler, {})}

    def _count(self, name: str, least: int, *, optional: bool) -> None:
        value = getattr(self, name)
        if value is None and optional:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ClaimError(f"{name} = {value!r} must be a whole number >= {least}")


def _require_known(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        shown = ", ".join(one for one in known if one)
        raise ClaimError(f"unknown {name} {value!r}", nearest_name(str(value), known) or f"Known: {shown}.")
