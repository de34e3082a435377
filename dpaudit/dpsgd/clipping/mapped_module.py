"""Modules without rules, differentiated for all records at once by torch.func."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.func import vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from dpaudit.dpsgd.clipping.record_axis import RecordAxis
from dpaudit.dpsgd.clipping.replacement import call_with, places_of

#: Runs a module on tensors in place of its own, and gives the tensors that come out.
Run = Callable[[tuple[Tensor, ...]], list[Tensor]]


class _Holder(nn.Module):
    """Owns a module, so that its parameters can be replaced while a function runs."""

    def __init__(self, module: nn.Module, run: Run) -> None:
        super().__init__()
        self.module = module
        self.__dict__["run"] = run

    def forward(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.__dict__["run"](tensors))


def can_be_mapped(module: nn.Module) -> bool:
    """Whether parameters can be replaced: recurrent layers hold theirs in a second list, out of reach."""
    return not any(isinstance(part, nn.RNNBase) for part in module.modules())


def mapped_gradients(
    module: nn.Module, run: Run, parameters: Mapping[str, Tensor], tensors: Sequence[Tensor],
    axes: Sequence[RecordAxis | None], grads: Sequence[Tensor], outputs: Sequence[RecordAxis | None],
    wanted: Sequence[int], chunk: int,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Gradients of every record, by a mapped vector-Jacobian product.

    Args:
      module: owns the parameters.
      run: runs it.
      parameters: by their names in the module.
      tensors: the inputs.
      axes: where the records are in each; None: shared by all.
      grads: of the outputs.
      outputs: where the records are in each.
      wanted: numbers of the inputs whose gradients are wanted.
      chunk: records at once.

    Returns:
      Per-record gradients (batch, *shape) of the parameters, and those of the wanted inputs, whole.

    Raises:
      RuntimeError: torch.func cannot map what the module does.
    """
    holder = _Holder(module, run)
    places = places_of(holder, parameters)

    def one(own: list[Tensor], own_grads: list[Tensor]) -> tuple[Any, Any]:
        own = [_with_axis(tensor, axis) for tensor, axis in zip(own, axes, strict=True)]

        def forward(values: list[Tensor], chosen: list[Tensor]) -> tuple[Tensor, ...]:
            given = list(own)
            for place, tensor in zip(wanted, chosen, strict=True):
                given[place] = tensor
            found = call_with(holder, places, dict(zip(parameters, values, strict=True)), tuple(given))
            return tuple(tensor for tensor in found if tensor.is_floating_point())

        values = [parameter.detach() for parameter in parameters.values()]
        results, back = vjp(forward, values, [own[place] for place in wanted])[:2]
        pairs = zip(own_grads, outputs, results, strict=True)
        found: tuple[Any, Any] = back(
            tuple(_with_axis(grad, axis).to(result.dtype) for grad, axis, result in pairs)
        )
        return found

    dims = [None if axis is None else axis.dim for axis in axes]
    grad_dims = [None if axis is None else axis.dim for axis in outputs]
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")  # of operations that torch.func maps slowly
        mapped = vmap(one, in_dims=(dims, grad_dims), chunk_size=chunk)
        gradients, back = mapped([tensor.detach() for tensor in tensors], list(grads))
    return list(gradients), [_whole(part, axes[place]) for place, part in zip(wanted, back, strict=True)]


def _with_axis(tensor: Tensor, axis: RecordAxis | None) -> Tensor:
    return tensor if axis is None else tensor.unsqueeze(axis.dim)


def _whole(gradient: Tensor, axis: RecordAxis | None) -> Tensor:
    """From (records, ..., 1, ...) to the shape of the input."""
    return gradient.sum(0) if axis is None else gradient.squeeze(axis.dim + 1).movedim(0, axis.dim)
