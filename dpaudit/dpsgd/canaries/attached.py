"""AttachedModel: a model with canaries plugged in, to be trained by any engine that knows its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dpaudit.dpsgd.canaries.layout import MODEL, REGISTER, CanaryLayout, register_shape
from dpaudit.dpsgd.canaries.sites import PLANTED, Site, pick, plant

# Class of every gradient canary. Its logits are all zero, so that cross entropy pulls at the first one
# with a gradient of 1 / classes, always the same.
CANARY_CLASS = 1


class AttachedModel(nn.Module):
    """Feed ordinary records to a model, and canaries to the coordinate that each lives at.

    Inputs are rows of numbers: the record's features, flat, then its number in the training set. A
    canary's outputs have the value zero whatever the parameters are, and a gradient that lives at one
    coordinate; an ordinary record's outputs are the model's own. `register`, one more linear layer
    without a bias, gives canaries a place that no ordinary record reaches.

    Args:
      model: any module of (batch, ...) to class scores (batch, classes >= 2).
      layout: where the canaries live.
      sites: the tensors of `model` that the layout speaks of.
      shape: of one record's features, as the model takes them.
      dtype: likewise.
      real: number of ordinary records; those numbered from there on are the included canaries, in order.
      silent: give ordinary records no gradient at all, so that every coordinate of every tensor shows
        noise and canaries alone.

    Attributes:
      tensors: trainable parameters with the names that layouts know them by.
    """

    _tensor: Tensor
    _coordinate: Tensor
    _scale: Tensor

    def __init__(
        self,
        model: nn.Module,
        layout: CanaryLayout,
        sites: tuple[Site, ...],
        *,
        shape: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        real: int,
        silent: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        rows, columns = register_shape(int(layout.in_tensor(REGISTER).sum()))
        self.register = nn.Linear(columns, rows, bias=False)
        nn.init.zeros_(self.register.weight)
        self.shape, self.dtype, self.real, self.silent = shape, dtype, real, silent
        self.saw: Callable[[Tensor], None] | None = None
        included = torch.from_numpy(layout.included)
        for name, values in (("_tensor", layout.tensor), ("_coordinate", layout.coordinate)):
            self.register_buffer(name, torch.from_numpy(values)[included], persistent=False)
        scale = torch.from_numpy(layout.scale)[included].float()
        self.register_buffer("_scale", scale, persistent=False)
        self._canary: Tensor = torch.zeros(0, dtype=torch.int64)
        self._is_canary: Tensor = torch.zeros(0, dtype=torch.bool)
        self._pulses: list[Tensor] = []
        self._within = False
        self.tensors = tuple((name, parameter) for name, parameter in self.named_parameters())
        by_layer: dict[str, list[tuple[int, Site]]] = {}
        for site in sites:
            if MODEL + site.tensor in layout.tensors:
                by_layer.setdefault(site.layer, []).append((layout.tensors.index(MODEL + site.tensor), site))
        for layer, tensors in by_layer.items():
            self._plug(layer, tensors)

    def forward(self, rows: Tensor) -> Tensor:
        """Give class scores, (batch, classes)."""
        numbers = rows[:, -1].round().long()
        if self.saw is not None and self.training and not torch._C._functorch.is_batchedtensor(rows):
            self.saw(numbers)
        self._is_canary = numbers >= self.real
        self._canary = (numbers - self.real).clamp(0, max(0, len(self._tensor) - 1))
        self._pulses = [self._from_register()] if len(self._tensor) else []
        features = rows[:, :-1].reshape(-1, *self.shape).to(self.dtype)
        self._within = True
        try:
            scores: Tensor = self.model(features)
        finally:
            self._within = False
        quiet = self._is_canary | self.silent
        scores = torch.where(quiet[:, None], 0.0, scores)
        if not self._pulses:
            return scores
        pulse = torch.stack(self._pulses).sum(0)
        # Value zero, gradient one: what the canary adds never depends on what it added before.
        pulse = (pulse - pulse.detach()) * self._strength(scores.shape[1])
        first = torch.arange(scores.shape[1], device=scores.device) == 0
        return scores + torch.where(first, pulse[:, None], 0.0)

    def _strength(self, classes: int) -> Tensor:
        """Undo the planted entry and the 1 / classes of the loss, so that the norm is the layout's scale."""
        return self._scale[self._canary] * classes / PLANTED

    def _lives_in(self, tensor: int) -> Tensor:
        return self._is_canary & (self._tensor[self._canary] == tensor)

    def _from_register(self) -> Tensor:
        here, coordinate = self._lives_in(0), self._coordinate_in(self.register.weight.numel())
        blank = self.register.weight.new_zeros(len(here), self.register.in_features)
        planted = torch.where(here[:, None], plant(self.register, "weight", coordinate, blank), blank)
        return torch.where(here, pick(self.register, "weight", coordinate, self.register(planted)), 0.0)

    def _plug(self, layer: str, tensors: list[tuple[int, Site]]) -> None:
        """Exchange the layer's inputs for canaries that live in it, and read their outputs."""
        module = self.model.get_submodule(layer)

        def before(inputs: Tensor) -> Tensor:
            for tensor, site in tensors:
                here = self._lives_in(tensor).view(-1, *([1] * (inputs.dim() - 1)))
                planted = plant(module, site.part, self._coordinate_in(site.coordinates), inputs)
                inputs = torch.where(here, planted, inputs)
            return inputs

        def after(outputs: Tensor) -> None:
            for tensor, site in tensors:
                picked = pick(module, site.part, self._coordinate_in(site.coordinates), outputs)
                # A bias takes the whole gradient; the planted entry of a weight multiplies it.
                weight = 1.0 if site.part == "weight" and not isinstance(module, nn.Embedding) else PLANTED
                self._pulses.append(torch.where(self._lives_in(tensor), picked * weight, 0.0))

        plugged = _Plugged(module, before, after, lambda: self._within)
        parent, _, name = layer.rpartition(".")
        if layer:
            setattr(self.model.get_submodule(parent), name, plugged)
        else:
            self.model = plugged

    def _coordinate_in(self, size: int) -> Tensor:
        """Give the canaries' coordinates, wrapped into a tensor of this size for those elsewhere."""
        return self._coordinate[self._canary] % size


class _Plugged(nn.Module):
    """A layer with something done to what comes in, and something read of what goes out.

    Around the layer and not in its hooks: engines hook the layer too, and must see what is done.
    """

    def __init__(
        self,
        layer: nn.Module,
        before: Callable[[Tensor], Tensor],
        after: Callable[[Tensor], None],
        active: Callable[[], bool],
    ) -> None:
        super().__init__()
        self.layer = layer
        self._before, self._after, self._active = before, after, active

    def forward(self, inputs: Tensor, *others: Any, **named: Any) -> Tensor:
        """Call the layer."""
        if not self._active():  # the model is used on its own, to be evaluated
            return self.layer(inputs, *others, **named)  # type: ignore[no-any-return]
        outputs: Tensor = self.layer(self._before(inputs), *others, **named)
        self._after(outputs)
        return outputs

    def __getattr__(self, name: str) -> Any:
        """Give the layer's own attributes to code that looks for them."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)
