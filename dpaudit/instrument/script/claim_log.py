"""What a program says of its privacy while it runs: calls of engines and accountants, in their order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A call that made a training private (Opacus' `make_private`, an engine that is attached)."""

    noise_multiplier: float
    clip_norm: float | None
    poisson_sampling: bool
    num_records: int
    expected_batch_size: float | None
    """By which the summed gradients are divided."""
    sampling_rate: float
    """Rate that the engine accounts for."""
    clipping: str | None = None
    library: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Noise that a library found for a wanted epsilon (Opacus' `get_noise_multiplier`)."""

    target_epsilon: float
    target_delta: float
    sampling_rate: float
    steps: int
    noise_multiplier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounted:
    """Equal steps in a row that an accountant was told of."""

    sampling_rate: float
    """Of Poisson sampling; 1: no sampling, hence no amplification."""
    noise_multiplier: float
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedEpsilon:
    """What an accountant answered."""

    epsilon: float
    delta: float
    accounted: tuple[Accounted, ...]
    """What it had been told by then."""
    optimizer_steps: int
    """Steps of all optimizers by then."""
    accountant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseUsed:
    """Noise multiplier and clip norm that a private optimizer had at its steps, equal ones in a row."""

    noise_multiplier: float
    clip_norm: float | None
    expected_batch_size: float | None
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadClaim:
    """All that was read off one run."""

    engines: tuple[Engine, ...] = ()
    calibrations: tuple[Calibration, ...] = ()
    accounted: tuple[Accounted, ...] = ()
    """Of the accountant that was told of most steps."""
    stated: tuple[StatedEpsilon, ...] = ()
    noise: tuple[NoiseUsed, ...] = ()
    accountant: str = ""
    library: str = ""
    unread: tuple[str, ...] = ()
    """What an accountant was told of that cannot be judged, by name."""
    accounts: int = 0
    """How many accounts, or plans, there are."""
    several: bool = False
    """Whether accounts, or plans, differ from each other: of one training, or of several."""

    @property
    def is_empty(self) -> bool:
        """Whether the program made no claim."""
        return not (self.engines or self.calibrations or self.accounted or self.stated)

    @property
    def accounted_steps(self) -> int:
        """Steps that the accountant was told of."""
        return sum(run.steps for run in self.accounted)


class ClaimLog:
    """Grows with each call of a library of differential privacy."""

    def __init__(self, optimizer_steps: Callable[[], int]) -> None:
        self._optimizer_steps = optimizer_steps
        self.engines: list[Engine] = []
        self.calibrations: list[Calibration] = []
        self.stated: list[StatedEpsilon] = []
        self.noise: list[NoiseUsed] = []
        self._told: dict[int, tuple[object, str, list[Accounted]]] = {}
        self.library = ""
        self.unread: list[str] = []
        self.searching = 0
        """Above 0 while a library asks its accountant by itself, to calibrate noise."""

    @contextlib.contextmanager
    def asking_itself(self) -> Iterator[None]:
        """Know that a library asks its accountant by itself until the block ends: that is no statement."""
        self.searching += 1
        try:
            yield
        finally:
            self.searching -= 1

    def told(self, accountant: object, name: str, sampling_rate: float, noise: float, steps: int) -> None:
        """Note steps that an accountant was told of."""
        if self.searching:
            return
        runs = self._runs_of(accountant, name)
        last = runs[-1] if runs else None
        if last is not None and (last.sampling_rate, last.noise_multiplier) == (sampling_rate, noise):
            steps += last.steps
            runs.pop()
        runs.append(Accounted(sampling_rate=sampling_rate, noise_multiplier=noise, steps=steps))

    def resumed(self, accountant: object, name: str, runs: list[Accounted]) -> None:
        """Replace what an accountant was told, as loading a checkpoint does."""
        self._runs_of(accountant, name)[:] = runs

    def answered(self, accountant: object, name: str, epsilon: float, delta: float) -> None:
        """Note an epsilon that the program asked for."""
        if self.searching:
            return
        self.stated.append(
            StatedEpsilon(
                epsilon=float(epsilon),
                delta=float(delta),
                accounted=tuple(self._runs_of(accountant, name)),
                optimizer_steps=self._optimizer_steps(),
                accountant=name,
            )
        )

    def noised(self, noise: float, clip_norm: float | None, expected_batch_size: float | None) -> None:
        """Note the noise of a step that a private optimizer makes."""
        steps = 1
        if self.noise:
            last = self.noise[-1]
            same = (last.noise_multiplier, last.clip_norm, last.expected_batch_size)
            if same == (noise, clip_norm, expected_batch_size):
                steps += last.steps
                self.noise.pop()
        self.noise.append(
            NoiseUsed(
                noise_multiplier=noise,
                clip_norm=clip_norm,
                expected_batch_size=expected_batch_size,
                steps=steps,
            )
        )

    def read(self) -> ReadClaim:
        """Give all that was noted; of several accountants, what the busiest was told."""
        busiest = max(
            self._told.values(), key=lambda told: sum(run.steps for run in told[2]), default=(None, "", [])
        )
        return ReadClaim(
            engines=tuple(self.engines),
            calibrations=tuple(self.calibrations),
            accounted=tuple(busiest[2]),
            stated=tuple(self.stated),
            noise=tuple(self.noise),
            accountant=busiest[1] or (self.stated[-1].accountant if self.stated else ""),
            library=self.library,
            unread=tuple(dict.fromkeys(self.unread)),
            accounts=max(sum(bool(runs) for _, _, runs in self._told.values()), len(self.calibrations)),
            several=self._differ(),
        )

    def _differ(self) -> bool:
        accounts = {tuple(runs) for _, _, runs in self._told.values() if runs}
        plans = {(plan.sampling_rate, plan.steps) for plan in self.calibrations}
        return max(len(accounts), len(plans), len({engine.sampling_rate for engine in self.engines})) > 1

    def _runs_of(self, accountant: object, name: str) -> list[Accounted]:
        # The accountant is kept, so that its identity stays.
        return self._told.setdefault(id(accountant), (accountant, name, []))[2]
