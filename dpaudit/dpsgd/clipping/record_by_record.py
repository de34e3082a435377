"""Modules without rules: their vector-Jacobian products, all records at once or one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from dpaudit.dpsgd.clipping.books import GradientBook, working_dtype
from dpaudit.dpsgd.clipping.ledger import Ledger
from dpaudit.dpsgd.clipping.mapped_module import can_be_mapped, mapped_gradients
from dpaudit.dpsgd.clipping.plan import ModuleStep, Plan, StalePlan
from dpaudit.dpsgd.clipping.record_axis import RecordAxis, RecordsNotSeparable, nearly_equal
from dpaudit.dpsgd.clipping.sources import Source


@dataclass(frozen=True, slots=True)
class Owned:
    """A module, and the names of its trainable parameters: in the whole model by those in the module."""

    module: nn.Module
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModuleCall:
    """One use of such a module."""

    name: str
    owned: Owned
    plan: Plan
    forward: Callable[..., Any]
    spec: TreeSpec
    leaves: tuple[Any, ...]
    places: tuple[int, ...]
    step: ModuleStep
    sources: tuple[Source, ...]
    ledger: Ledger

    def run(self, tensors: tuple[Tensor, ...]) -> tuple[list[Any], TreeSpec]:
        """Run the module on tensors in place of its own; give the flattened output."""
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = tree_unflatten(leaves, self.spec)
        return tree_flatten(self.forward(*args, **kwargs))

    def outputs(self, tensors: tuple[Tensor, ...]) -> list[Tensor]:
        """Run the module; give the tensors of its output."""
        return [leaf for leaf in self.run(tensors)[0] if isinstance(leaf, Tensor)]


class RecordByRecord(torch.autograd.Function):
    """Autograd node of a module; its backward books all its parameters."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, call: ModuleCall, outcome: list[Any], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the module."""
        flat, tree = call.run(tensors)
        outcome.extend((flat, tree))
        outputs = [leaf for leaf in flat if isinstance(leaf, Tensor)]
        if len(outputs) != len(call.step.outputs):
            raise StalePlan("a module gave another number of tensors than in the probe")
        ctx.call = call
        ctx.save_for_backward(*tensors)
        # An output that is an input, or a view of one, must be a tensor of its own.
        outputs = [
            output.clone() if output._is_view() or _is_one_of(output, tensors) else output
            for output in outputs
        ]
        ctx.mark_non_differentiable(*(output for output in outputs if not output.is_floating_point()))
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Book the parameters; give the gradients of the inputs."""
        call, tensors = ctx.call, ctx.saved_tensors
        wanted = [
            place
            for place, needed in enumerate(ctx.needs_input_grad[3:])
            if needed and tensors[place].is_floating_point()
        ]
        gradients, inputs = _gradients(call, tensors, grads, wanted)
        for source, gradient in zip(call.sources, gradients, strict=True):
            call.ledger.add(source, GradientBook(gradient))
        result: list[Tensor | None] = [None] * len(tensors)
        for place, gradient in zip(wanted, inputs, strict=True):
            result[place] = gradient
        return (None, None, None, *result)


def _gradients(
    call: ModuleCall, tensors: tuple[Tensor, ...], grads: tuple[Tensor, ...], wanted: list[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Per-record gradients of the parameters, and the gradients of the wanted inputs.

    All records at once where torch.func can; its first result is compared with that for one record alone, as
    a module may keep parameters where torch.func does not see them.
    """
    mapped = call.plan.mapped
    if mapped.get(call.name, can_be_mapped(call.owned.module)):
        try:
            found = _all_at_once(call, tensors, grads, wanted)
        except (RuntimeError, ValueError):
            mapped[call.name] = False
        else:
            if call.name in mapped:
                return found
            agrees = _agrees(call, tensors, grads, found[0])
            if agrees is not None:
                mapped[call.name] = agrees
            if agrees is not False:
                return found
    return _one_by_one(call, tensors, grads, wanted)


def _all_at_once(
    call: ModuleCall, tensors: tuple[Tensor, ...], grads: tuple[Tensor, ...], wanted: list[int]
) -> tuple[list[Tensor], list[Tensor]]:
    parameters = dict(zip(call.owned.names, (source.tensor for source in call.sources), strict=True))
    size = sum(parameter.numel() * parameter.element_size() for parameter in parameters.values())
    floating = [
        (grad, axis) for grad, axis in zip(grads, call.step.outputs, strict=True) if grad.is_floating_point()
    ]
    gradients, inputs = mapped_gradients(
        call.owned.module, call.outputs, parameters, tensors, call.step.inputs,
        [grad for grad, _ in floating], [axis for _, axis in floating], wanted,
        max(1, min(call.ledger.batch, call.ledger.chooser.memory_budget // max(1, size))),
    )  # fmt: skip
    return [gradient.to(working_dtype(gradient)) for gradient in gradients], inputs


def _agrees(
    call: ModuleCall, tensors: tuple[Tensor, ...], grads: tuple[Tensor, ...], found: list[Tensor]
) -> bool | None:
    """Compare the gradients of the record with the largest output gradient with those it has alone.

    None: every output gradient is zero, which shows nothing; all gradients are zero then.
    """
    sizes = [
        grad.movedim(axis.dim, 0).flatten(1).abs().sum(1)
        for grad, axis in zip(grads, call.step.outputs, strict=True)
        if axis is not None and grad.is_floating_point()
    ]
    total = torch.stack(sizes).sum(0).nan_to_num()
    if not bool(total.any()):
        return None
    record = int(total.argmax())
    parameters = [source.tensor for source in call.sources]
    alone, _ = _one_record(call, tensors, grads, [], parameters, record)
    return all(
        nearly_equal(gradient[record], own.to(gradient.dtype))
        for gradient, own in zip(found, alone, strict=True)
    )


def _one_by_one(
    call: ModuleCall, tensors: tuple[Tensor, ...], grads: tuple[Tensor, ...], wanted: list[int]
) -> tuple[list[Tensor], list[Tensor]]:
    batch, parameters = call.ledger.batch, [source.tensor for source in call.sources]
    gradients = [p.new_empty(batch, *p.shape, dtype=working_dtype(p)) for p in parameters]
    inputs: list[list[Tensor]] = [[] for _ in wanted]
    for record in range(batch):
        own, back = _one_record(call, tensors, grads, wanted, parameters, record)
        for book, gradient in zip(gradients, own, strict=True):
            book[record] = gradient
        for parts, gradient in zip(inputs, back, strict=True):
            parts.append(gradient)
    axes = [call.step.inputs[place] for place in wanted]
    whole = [
        sum(parts[1:], parts[0]) if axis is None else torch.cat(parts, axis.dim)
        for parts, axis in zip(inputs, axes, strict=True)
    ]
    return gradients, whole


def _one_record(
    call: ModuleCall, tensors: tuple[Tensor, ...], grads: tuple[Tensor, ...], wanted: list[int],
    parameters: list[Tensor], record: int,
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Gradients of one record with respect to the parameters and to the wanted inputs."""
    own = [
        _select(tensor, axis, record).detach().requires_grad_(place in wanted)
        for place, (tensor, axis) in enumerate(zip(tensors, call.step.inputs, strict=True))
    ]
    with torch.enable_grad():
        outputs = call.outputs(tuple(own))
    pairs = [
        (output, _select(grad, axis, record))
        for output, grad, axis in zip(outputs, grads, call.step.outputs, strict=True)
        if output.requires_grad
    ]
    targets = [*parameters, *(own[place] for place in wanted)]
    if not pairs:
        found = [torch.zeros_like(target) for target in targets]
    else:
        given = torch.autograd.grad(
            [output for output, _ in pairs], targets, [grad.to(output.dtype) for output, grad in pairs],
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        found = list(given)
    return found[: len(parameters)], found[len(parameters) :]


def _select(tensor: Tensor, axis: RecordAxis | None, record: int) -> Tensor:
    if axis is None:
        return tensor
    if axis.folded:
        raise RecordsNotSeparable("records and positions are folded into one dimension")
    return tensor.narrow(axis.dim, record, 1)


def _is_one_of(output: Tensor, tensors: tuple[Tensor, ...]) -> bool:
    return any(output is tensor for tensor in tensors)
