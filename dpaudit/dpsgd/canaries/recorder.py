"""Recorder: what every step of an optimizer released at the canaries' coordinates, and who was in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dpaudit.dpsgd.canaries.attached import AttachedModel
from dpaudit.dpsgd.canaries.layout import CanaryLayout
from dpaudit.errors import DpauditError

#: Gives the part of the released sum that the auditor knows beforehand, by parameter name.
Known = Callable[[npt.NDArray[np.int64]], Mapping[str, Tensor]]
Source = Literal["gradient", "parameters"]


@dataclass(slots=True, eq=False)
class Recorder:
    """Watch an optimizer; one row for each of its steps.

    Attributes:
      model: the attached model, as the optimizer trains it.
      layout: where the canaries live.
      clip_norm: claimed; values are in its units.
      divisor: what the sum of clipped gradients was divided by (expected batch size times workers).
      source: "gradient" reads what the optimizer was given, for any optimizer; "parameters" reads what
        the parameters moved by, for SGD, and is the released model itself.
      known: part of the sum that is taken off before values are read, so that canaries may share
        coordinates with ordinary records; None takes nothing off.
      real: number of ordinary records.
    """

    model: AttachedModel
    layout: CanaryLayout
    clip_norm: float
    divisor: float
    real: int
    source: Source = "gradient"
    known: Known | None = None
    values: list[npt.NDArray[np.float32]] = field(default_factory=list)
    batches: list[npt.NDArray[np.int64]] = field(default_factory=list)
    residuals: list[float] = field(default_factory=list)
    """Per step, residual of the release along the known sum, in clip norms; nan where that is zero."""
    _seen: list[Tensor] = field(default_factory=list)
    _before: dict[str, Tensor] = field(default_factory=dict)
    _velocity: dict[str, Tensor] = field(default_factory=dict)
    _sum_known: Mapping[str, Tensor] = field(default_factory=dict)

    def watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Record every step of the optimizer; of a wrapper (Opacus), of the one inside.

        Raises:
          DpauditError: parameters are to be read of an optimizer that is not plain SGD.
        """
        while isinstance(getattr(optimizer, "original_optimizer", None), torch.optim.Optimizer):
            optimizer = optimizer.original_optimizer  # type: ignore[attr-defined]
        if self.source == "parameters":
            _require_sgd(optimizer)
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(self._after_step)

    def saw(self, numbers: Tensor) -> None:
        """Note records that take part in the step under way."""
        self._seen.append(numbers.detach().cpu())

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        batch = np.unique(torch.cat(self._seen).numpy()) if self._seen else np.zeros(0, np.int64)
        self._seen = []
        self.batches.append(batch)
        self._sum_known = {} if self.known is None else self.known(batch)
        if self.source == "gradient":
            self._read({name: p.grad for name, p in self._trained() if p.grad is not None})
        else:
            self._before = {name: parameter.detach().clone() for name, parameter in self._trained()}

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self.source == "parameters":
            self._read(self._undo_sgd(optimizer))

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.tensors)

    def _undo_sgd(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Give the gradients that explain how the parameters moved."""
        settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        found = {}
        for name, parameter in self._trained():
            group = settings.get(id(parameter))
            if group is None:
                continue
            velocity = (self._before[name] - parameter) / group["lr"]
            gradient = velocity
            if group["momentum"] and name in self._velocity:
                gradient = velocity - group["momentum"] * self._velocity[name]
            self._velocity[name] = velocity
            found[name] = gradient - group["weight_decay"] * self._before[name]
        return found

    def _read(self, released: Mapping[str, Tensor]) -> None:
        row = np.empty(self.layout.canaries, np.float32)
        along, length = 0.0, 0.0
        own = self._of_canaries()
        for index, name in enumerate(self.layout.tensors):
            here = self.layout.tensor == index
            if not here.any():
                continue
            total = _tensor_named(released, name).flatten() * (self.divisor / self.clip_norm)
            known = self._sum_known.get(name)
            if known is not None:
                expected = known.flatten() / self.clip_norm
                total = total - expected
                rest = total.clone()
                places, signal = (part.to(total.device) for part in own[index])
                rest[places] -= signal
                along += float(rest @ expected)
                length += float(expected @ expected)
            row[here] = total[torch.from_numpy(self.layout.coordinate[here])].cpu().numpy()
        if not np.isfinite(row).all():
            raise DpauditError(
                f"step {len(self.batches)} released values that are not finite", "Lower the learning rate."
            )
        self.values.append(row)
        self.residuals.append(along / length**0.5 if length > 0 else float("nan"))

    def _of_canaries(self) -> dict[int, tuple[Tensor, Tensor]]:
        """Give what the step's canaries add by the claim: one clip norm at each one's coordinate."""
        numbers = self.batches[-1]
        present = np.flatnonzero(self.layout.included)[numbers[numbers >= self.real] - self.real]
        found = {}
        for index in range(len(self.layout.tensors)):
            here = present[self.layout.tensor[present] == index]
            places = torch.from_numpy(self.layout.coordinate[here])
            found[index] = (places, torch.ones(len(places)))
        return found

    def participated(self) -> npt.NDArray[np.bool_]:
        """Say which canary took part in which step, shape (steps, canaries)."""
        numbers = np.flatnonzero(self.layout.included)
        found = np.zeros((len(self.batches), self.layout.canaries), np.bool_)
        for step, batch in enumerate(self.batches):
            found[step, numbers[batch[batch >= self.real] - self.real]] = True
        return found


def _tensor_named(released: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in released:
        raise DpauditError(
            f"the optimizer released nothing for {name!r}", "Give it all parameters of the attached model."
        )
    return released[name]


def _require_sgd(optimizer: torch.optim.Optimizer) -> None:
    plain = type(optimizer) is torch.optim.SGD and not any(
        group["nesterov"] or group["dampening"] or group["maximize"] for group in optimizer.param_groups
    )
    if not plain:
        raise DpauditError(
            f"the update of {type(optimizer).__name__} cannot be undone from the parameters",
            'Read the released gradient instead: read = "gradient".',
        )
