"""Find out how a model uses its parameters, from two forward passes on a few records.

The model runs on records (a, b) and on (b, c, a). Comparing both shows, for every call that involves a
trainable parameter, which dimension enumerates records; and that the losses of a and b do not depend on which
records are before and after them in the batch, without which no per-record gradient exists. What has neither
a rule nor separable records is refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpaudit.dpsgd.clipping.batches import call_model, check_losses
from dpaudit.dpsgd.clipping.broadcasting import ELEMENTWISE, EXPANSIONS, broadcasts_over_records
from dpaudit.dpsgd.clipping.interception import ParameterMode
from dpaudit.dpsgd.clipping.plan import CallKey, Kind, ModuleKey
from dpaudit.dpsgd.clipping.rules import RULES, NoRule, RefusedCall
from dpaudit.dpsgd.clipping.sources import Source, tensors_in
from dpaudit.dpsgd.clipping.unsupported import no_recomputation
from dpaudit.dpsgd.clipping.wrapped_modules import wrapped_modules

Loss = Callable[[Any, Any], Tensor]

_DROPOUTS = frozenset(
    {
        F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
        torch.dropout, torch.feature_dropout, torch.alpha_dropout,
    }
)  # fmt: skip


@dataclass(slots=True)
class SeenCall:
    """One call in a probe.

    Attributes:
      kind: how it can be treated.
      reason: why it is unsupported.
      module: the innermost module that was running, or None in the loss.
      final: the reason holds for any treatment.
      witness: the tensor that shows where the records are.
      trailing: how many of its last dimensions cannot enumerate records.
      sources: the parameters' tensors in the call.
      constants: the other tensors.
      outputs: what came out.
    """

    kind: Kind
    reason: str
    module: str | None
    final: bool
    witness: Tensor | None
    trailing: int
    sources: list[Source]
    constants: list[Tensor]
    outputs: list[Tensor]


@dataclass(slots=True)
class SeenModule:
    """One use of a module that is differentiated record by record."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    trouble: str


@dataclass(slots=True)
class Sighting:
    """What one forward pass of a probe saw."""

    calls: dict[CallKey, SeenCall] = field(default_factory=dict)
    modules: dict[ModuleKey, SeenModule] = field(default_factory=dict)
    losses: Tensor | None = None


class ProbeMode(ParameterMode):
    """Record every call that involves a parameter; follow which tensors depend on the records.

    Args:
      parameters: trainable parameters by name.
      inputs: tensors that hold records.
      sized: calls known to depend on the batch through its size alone.
    """

    def __init__(self, parameters: Mapping[str, Tensor], inputs: Any, sized: set[CallKey]) -> None:
        super().__init__(parameters)
        self.sized = sized
        self.sighting = Sighting()
        self.running: list[str] = []
        self._uses: Counter[str] = Counter()
        self._alive: list[Tensor] = []
        self._dependent: set[int] = set()
        self.mark(inputs)

    def mark(self, value: Any) -> None:
        """Note that tensors depend on the records."""
        for tensor in tensors_in(value):
            if id(tensor) not in self._dependent:
                self._dependent.add(id(tensor))
                self._alive.append(tensor)  # an id is only unique among living tensors

    def depends(self, value: Any) -> bool:
        """Whether any tensor in a nested value depends on the records."""
        return any(id(tensor) in self._dependent for tensor in tensors_in(value))

    def other_call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call without parameters, random masks left out, as they differ between batch sizes."""
        result = _without_chance(func, args, kwargs)
        if self.depends((args, kwargs)):
            self.mark(result)
            if func is Tensor.__setitem__:
                self.mark(args[0])
        return result

    def parameter_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], found: list[Source]
    ) -> Any:
        """Run and record a call."""
        result = _without_chance(func, args, kwargs)
        outputs = list(tensors_in(result))
        if not any(tensor.requires_grad for tensor in outputs):
            if self.depends((args, kwargs)):
                self.mark(result)
            return result
        key = self.next_key(func, found)
        constants = [tensor for tensor in tensors_in((args, kwargs)) if id(tensor) not in self.sources]
        seen = SeenCall(
            "derived",
            "",
            self.running[-1] if self.running else None,
            False,
            None,
            0,
            found,
            constants,
            outputs,
        )
        self.sighting.calls[key] = seen
        if key in self.sized or self.depends((args, kwargs)):
            self._classify(seen, func, args, kwargs)
            self.mark(result)
        else:
            self.track(func, args, kwargs, found, result)
        return result

    def _classify(
        self, seen: SeenCall, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        seen.kind, seen.reason = (
            "unsupported",
            f"{getattr(func, '__name__', func)} has no rule for a parameter there",
        )
        if func in RULES:
            try:
                self._classify_by_rule(seen, func, args, kwargs)
            except (NoRule, RefusedCall) as error:
                seen.reason, seen.final = str(error), isinstance(error, RefusedCall)
        elif func in EXPANSIONS and args and id(args[0]) in self.sources and len(seen.sources) == 1:
            seen.kind, seen.witness = "expand", seen.outputs[0]
        elif func in ELEMENTWISE and not (
            func.__name__.endswith("_") and id(args[0]) in self.sources and _in_place(func)
        ):
            seen.kind, seen.witness = "broadcast", seen.outputs[0]

    def _classify_by_rule(
        self, seen: SeenCall, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        bound = RULES[func](*args, **kwargs)
        if id(bound.data) in self.sources:
            raise NoRule("the input of the layer is itself computed from parameters alone")
        for tensor in (bound.weight, bound.bias):
            if tensor is not None and id(tensor) not in self.sources and tensor.requires_grad:
                raise NoRule("one of weight and bias depends on the records, the other is a parameter")
        seen.kind, seen.witness, seen.trailing = "rule", bound.data, bound.trailing

    def run_module(
        self, name: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run and record a module that is differentiated record by record."""
        if self.paused:
            return forward(*args, **kwargs)
        inputs = list(tensors_in((args, kwargs)))
        before = _random_states()
        self.paused = True
        try:
            result = forward(*args, **kwargs)
        finally:
            self.paused = False
        trouble = ""
        if any(not torch.equal(old, new) for old, new in zip(before, _random_states(), strict=True)):
            trouble = "it draws random numbers, so that its gradient cannot be taken a second time"
        if any(id(tensor) in self.sources for tensor in inputs):
            trouble = "it is given tensors that are computed from parameters alone"
        self._uses[name] += 1
        self.sighting.modules[name, self._uses[name]] = SeenModule(inputs, list(tensors_in(result)), trouble)
        self.mark(result)
        return result


def look(
    model: nn.Module,
    records: tuple[Any, Any],
    loss: Loss,
    parameters: Mapping[str, Tensor],
    count: int,
    modules: frozenset[str],
    sized: set[CallKey],
) -> Sighting:
    """Run a probe on inputs and targets of `count` records."""
    inputs, targets = records
    mode = ProbeMode(parameters, records, sized)
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(no_recomputation())
        stack.enter_context(wrapped_modules(model, modules, mode.run_module))
        stack.enter_context(_module_names(model, mode.running))
        stack.enter_context(mode)
        losses = loss(call_model(model, inputs), targets)
    mode.sighting.losses = check_losses(losses, count).detach()
    return mode.sighting


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put buffers and random number generators back afterwards."""
    devices = {tensor.device.index for tensor in model.parameters() if tensor.is_cuda}
    kept = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng(devices=sorted(device for device in devices if device is not None)):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                if buffer.shape == value.shape and not torch.equal(buffer, value):
                    buffer.copy_(value)


def _random_states() -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


@contextmanager
def _module_names(model: nn.Module, running: list[str]) -> Iterator[None]:
    def leave(*_: Any) -> None:
        running.pop()

    handles = []
    for name, module in model.named_modules():
        if isinstance(
            module, torch.jit.ScriptModule
        ):  # takes no hooks; the backward pass finds what it hides
            continue
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def expansion_fits(seen: SeenCall, dim: int) -> bool:
    """Whether the sources of an expansion or broadcast are the same for all records."""
    shape = seen.outputs[0].shape
    return all(broadcasts_over_records(source.tensor, shape, dim) for source in seen.sources)


def _in_place(func: Callable[..., Any]) -> bool:
    name = func.__name__
    return name.startswith("__i") or not name.startswith("__")


def _without_chance(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if func in _DROPOUTS:
        return args[0] if args else kwargs["input"]
    if func is F.scaled_dot_product_attention:
        args, kwargs = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args, {**kwargs}
        if "dropout_p" in kwargs:
            kwargs["dropout_p"] = 0.0
    if func is Tensor.bernoulli_:
        return args[0].fill_(1)
    if func is torch.bernoulli or func is Tensor.bernoulli:
        return torch.ones_like(args[0])
    return func(*args, **kwargs)
