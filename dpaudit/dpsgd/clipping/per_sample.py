"""The oracle: every record's whole gradient, as itself."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpaudit.dpsgd.clipping.batches import call_model, check_losses, map_records, take_records
from dpaudit.dpsgd.clipping.books import row_squares, working_dtype
from dpaudit.dpsgd.clipping.groups import ClippingGroups
from dpaudit.dpsgd.clipping.probe import Loss, unchanged
from dpaudit.dpsgd.clipping.replacement import call_with, places_of


class _Replaced(nn.Module):
    """A model called with other tensors in place of its parameters."""

    def __init__(self, model: nn.Module, places: Mapping[str, str], values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.__dict__["parts"] = (model, places, values)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return call_with(*self.__dict__["parts"], *args, **kwargs)


def per_sample_gradients(
    model: nn.Module, inputs: Any, targets: Any, loss: Loss, parameters: Mapping[str, Tensor], batch: int,
    memory_budget: int,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    """Compute every record's gradient.

    By torch.func where the model allows it, otherwise by one backward pass for each record; both are exact.

    Args:
      model: to differentiate; in training mode dropout draws a mask for each record.
      inputs: of `batch` records.
      targets: likewise.
      loss: gives one value for each record.
      parameters: trainable parameters by name.
      batch: number of records, at least one.
      memory_budget: bytes of gradients to compute at once.

    Returns:
      Gradients (batch, *shape) by name, and losses (batch,).
    """
    if _can_be_mapped(model, inputs, targets, loss, parameters, batch):
        try:
            return _by_vmap(model, inputs, targets, loss, parameters, batch, memory_budget)
        except (
            RuntimeError
        ):  # the model does what torch.func cannot map; an error of its own is raised again below
            pass
    return _one_by_one(model, inputs, targets, loss, parameters, batch)


def squared_norms(
    gradients: Mapping[str, Tensor], groups: ClippingGroups, batch: int, like: Tensor
) -> Tensor:
    """Squared norms of per-record gradients, (groups, batch)."""
    squares = like.new_zeros(len(groups.clip_norms), batch)
    for name, gradient in gradients.items():
        squares[groups.index[name]] += row_squares(gradient).to(squares)
    return squares


def _can_be_mapped(
    model: nn.Module, inputs: Any, targets: Any, loss: Loss, parameters: Mapping[str, Tensor], batch: int
) -> bool:
    """Whether every use of a parameter is of the one that can be replaced.

    Recurrent layers, and modules that keep a parameter in a list, use the original whatever is put in its
    place: torch.func would take it for a constant. Then the loss of one record still depends on it.
    """
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        return False
    own_inputs, own_targets = take_records((inputs, targets), batch, torch.tensor([0]))
    others = {name: parameter.detach().clone().requires_grad_() for name, parameter in parameters.items()}
    with unchanged(model), torch.enable_grad():
        total = check_losses(
            loss(call_model(_Replaced(model, places_of(model, parameters), others), own_inputs), own_targets),
            1,
        ).sum()
    if not total.requires_grad:
        return True
    found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return all(gradient is None for gradient in found)


def _by_vmap(
    model: nn.Module, inputs: Any, targets: Any, loss: Loss, parameters: Mapping[str, Tensor], batch: int,
    memory_budget: int,
) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
    tensors: list[Tensor] = []
    places = places_of(model, parameters)

    def collect(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_records((inputs, targets), batch, collect)

    def one_loss(values: dict[str, Tensor], own: list[Tensor]) -> Tensor:
        rest = iter(own)
        own_inputs, own_targets = map_records((inputs, targets), batch, lambda _: next(rest).unsqueeze(0))
        outputs = call_model(_Replaced(model, places, values), own_inputs)
        return check_losses(loss(outputs, own_targets), 1)[0]

    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
    chunk = max(1, min(batch, memory_budget // max(1, size)))
    mapped = vmap(grad_and_value(one_loss), in_dims=(None, 0), randomness="different", chunk_size=chunk)
    # Fused attention has no batching rule and would run record by record; of what else does, torch warns.
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gradients, losses = mapped(
            {name: parameter.detach() for name, parameter in parameters.items()}, tensors
        )
    return {name: value.to(working_dtype(value)) for name, value in gradients.items()}, losses.detach()


def _one_by_one(
    model: nn.Module, inputs: Any, targets: Any, loss: Loss, parameters: Mapping[str, Tensor], batch: int
) -> tuple[dict[str, Tensor], Tensor]:
    gradients = {name: p.new_zeros(batch, *p.shape, dtype=working_dtype(p)) for name, p in parameters.items()}
    losses = []
    for record in range(batch):
        own_inputs, own_targets = take_records((inputs, targets), batch, torch.tensor([record]))
        with torch.enable_grad():
            value = check_losses(loss(call_model(model, own_inputs), own_targets), 1)
        losses.append(value.detach())
        if value.requires_grad:
            found = torch.autograd.grad(value.sum(), list(parameters.values()), allow_unused=True)
            for (name, _), gradient in zip(parameters.items(), found, strict=True):
                if gradient is not None:
                    gradients[name][record] = gradient
    return gradients, torch.cat(losses)
