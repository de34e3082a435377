"""See every use of a trainable parameter, whatever module or function it is in."""

from __future__ import annotations

import types as python_types
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dpaudit.dpsgd.clipping.booked_call import Use, booked_call
from dpaudit.dpsgd.clipping.broadcasting import ExpandLayer
from dpaudit.dpsgd.clipping.ledger import Ledger
from dpaudit.dpsgd.clipping.plan import CallKey, Plan, StalePlan
from dpaudit.dpsgd.clipping.record_axis import RecordAxis
from dpaudit.dpsgd.clipping.rules import RULES
from dpaudit.dpsgd.clipping.sources import Source, rearranges, tensors_in, union_of_names
from dpaudit.dpsgd.clipping.unsupported import refuse_ragged_bags


def _open_multi_head_attention() -> Callable[..., Any]:
    """Copy PyTorch's attention function without its early exit to modes, so that its parts are seen."""
    original = F.multi_head_attention_forward
    names = {**original.__globals__, "has_torch_function": lambda tensors: False}
    opened = python_types.FunctionType(original.__code__, names, original.__name__, original.__defaults__)
    opened.__kwdefaults__ = original.__kwdefaults__
    return opened


def _rms_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor,
    eps: float | None = None,
) -> Tensor:
    return F.rms_norm(input, normalized_shape, None, eps) * weight


_ATTENTION = _open_multi_head_attention()


class ParameterMode(TorchFunctionMode):
    """Tell calls that involve parameters from all others.

    Args:
      parameters: trainable parameters by name.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.sources = {id(tensor): Source(tensor, (name,), True) for name, tensor in parameters.items()}
        self.paused = False
        self._occurrences: Counter[tuple[Any, tuple[str, ...]]] = Counter()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        found = [
            self.sources[id(tensor)] for tensor in tensors_in((args, kwargs)) if id(tensor) in self.sources
        ]
        refuse_ragged_bags(func, args, kwargs)
        if not found or not torch.is_grad_enabled():
            return self.other_call(func, args, kwargs)
        if func is F.multi_head_attention_forward:
            with self:
                return _ATTENTION(*args, **kwargs)
        if func is F.rms_norm and (
            kwargs.get("weight") is not None or (len(args) > 2 and args[2] is not None)
        ):
            with self:
                return _rms_norm(*args, **kwargs)
        return self.parameter_call(func, args, kwargs, found)

    def other_call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call that involves no parameter."""
        return func(*args, **kwargs)

    def parameter_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Source]
    ) -> Any:
        """Run a call that involves parameters."""
        raise NotImplementedError

    def next_key(self, func: Callable[..., Any], found: list[Source]) -> CallKey:
        """Number a call among those of one function and the same parameters."""
        pair = (func, union_of_names(found))
        self._occurrences[pair] += 1
        return (*pair, self._occurrences[pair])

    def track(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        found: list[Source],
        result: Any,
    ) -> None:
        """Make the results of a call on parameters and constants sources of their own."""
        isometric = len(found) == 1 and found[0].isometric and _keeps_norms(func, args, kwargs)
        for tensor in tensors_in(result):
            if tensor.requires_grad and id(tensor) not in self.sources:
                self.sources[id(tensor)] = Source(tensor, union_of_names(found), isometric)


class BookingMode(ParameterMode):
    """Run a forward pass in which every use of a parameter goes into a ledger.

    Args:
      parameters: trainable parameters by name.
      plan: from a probe of this model.
      ledger: of the batch.
    """

    def __init__(self, parameters: Mapping[str, Tensor], plan: Plan, ledger: Ledger) -> None:
        super().__init__(parameters)
        self.plan, self.ledger = plan, ledger

    def parameter_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Source]
    ) -> Any:
        """Treat a call as the plan says."""
        if (func, union_of_names(found)) not in self.plan.pairs:
            result = func(*args, **kwargs)
            if any(tensor.requires_grad for tensor in tensors_in(result)):
                raise StalePlan(f"{_name(func)} on {', '.join(union_of_names(found))}")
            return result
        step = self.plan.steps.get(self.next_key(func, found))
        if step is None:
            raise StalePlan(f"one more {_name(func)} on {', '.join(union_of_names(found))}")
        if step.axis is None:
            result = func(*args, **kwargs)
            self.track(func, args, kwargs, found, result)
            return result
        if step.kind == "rule":
            return self._by_rule(func, args, kwargs, step.axis)
        if step.kind == "expand":
            shape = func(found[0].tensor.detach(), *args[1:], **kwargs).shape
            return self._expanded(found[0], shape, step.axis)
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors_in((args, kwargs))))  # type: ignore[no-untyped-call]
        return func(*self._replaced(args, shape, step.axis), **self._replaced(kwargs, shape, step.axis))

    def _by_rule(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], axis: RecordAxis
    ) -> Tensor:
        bound = RULES[func](*args, **kwargs)
        weight, bias = (self.sources.get(id(tensor)) for tensor in (bound.weight, bound.bias))
        detached = (None if tensor is None else tensor.detach() for tensor in (bound.weight, bound.bias))
        return booked_call(bound.layer(Use(self.ledger, axis, weight, bias), *detached), bound.data)

    def _expanded(self, source: Source, shape: torch.Size, axis: RecordAxis) -> Tensor:
        return booked_call(ExpandLayer(Use(self.ledger, axis, source), shape), source.tensor.detach())

    def _replaced(self, value: Any, shape: torch.Size, axis: RecordAxis) -> Any:
        """Copy nested arguments with each source expanded."""
        if isinstance(value, Tensor):
            source = self.sources.get(id(value))
            return value if source is None else self._expanded(source, shape, axis)
        if isinstance(value, (tuple, list)):
            return type(value)(self._replaced(part, shape, axis) for part in value)
        if isinstance(value, dict):
            return {name: self._replaced(part, shape, axis) for name, part in value.items()}
        return value


def _keeps_norms(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if (
        func is F.embedding
    ):  # of constant indices, as position embeddings are: distinct rows are a rearrangement
        bound = RULES[func](*args, **kwargs)
        return bound.is_plain and torch.unique(bound.data).numel() == bound.data.numel()
    return not kwargs and rearranges(func, args)


def _name(func: Callable[..., Any]) -> str:
    return getattr(func, "__name__", str(func))
