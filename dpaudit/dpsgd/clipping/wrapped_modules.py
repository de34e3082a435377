"""Send the calls of modules without rules to a node of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from dpaudit.dpsgd.clipping.interception import ParameterMode
from dpaudit.dpsgd.clipping.ledger import Ledger
from dpaudit.dpsgd.clipping.plan import Plan, StalePlan
from dpaudit.dpsgd.clipping.record_by_record import ModuleCall, Owned, RecordByRecord
from dpaudit.dpsgd.clipping.sources import Source

Wrapper = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@contextmanager
def wrapped_modules(model: nn.Module, names: frozenset[str], wrapper: Wrapper) -> Iterator[None]:
    """Send the forward calls of some modules through a wrapper, for the time of the context."""
    modules = [(name, module) for name, module in model.named_modules() if name in names]
    shadowed = [(module, module.__dict__.get("forward")) for _, module in modules]
    try:
        for name, module in modules:
            module.forward = _bind(wrapper, name, module.forward)
        yield
    finally:
        for module, forward in shadowed:
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def owned_parameters(
    model: nn.Module, modules: frozenset[str], parameters: Mapping[str, Tensor]
) -> dict[str, Owned]:
    """Name the trainable parameters of some modules, by the modules' names."""
    whole = {id(tensor): name for name, tensor in parameters.items()}
    owned = {}
    for name in modules:
        module = model.get_submodule(name)
        inside = {inner: whole[id(p)] for inner, p in module.named_parameters() if id(p) in whole}
        owned[name] = Owned(module, inside)
    return owned


def _bind(wrapper: Wrapper, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: wrapper(name, forward, args, kwargs)


class BookingWrapper:
    """Run modules so that their backward books per-record gradients of all their parameters.

    Args:
      parameters: trainable parameters by name.
      plan: has the record axes of the modules.
      ledger: of the batch.
      mode: paused while such a module runs.
      owned: by module name, the module and its trainable parameters.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], plan: Plan, ledger: Ledger, mode: ParameterMode,
        owned: Mapping[str, Owned],
    ) -> None:  # fmt: skip
        self.parameters, self.plan, self.ledger, self.mode, self.owned = parameters, plan, ledger, mode, owned
        self._uses: Counter[str] = Counter()

    def __call__(
        self, name: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run one use."""
        if self.mode.paused:
            return forward(*args, **kwargs)
        self._uses[name] += 1
        step = self.plan.modules.get((name, self._uses[name]))
        leaves, spec = tree_flatten((args, kwargs))
        places = tuple(place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor))
        if step is None or len(step.inputs) != len(places):
            raise StalePlan(f"one more use of module {name!r}")
        sources = tuple(
            Source(self.parameters[owned], (owned,), True) for owned in self.owned[name].names.values()
        )
        for source in sources:
            self.ledger.expect(source)
        call = ModuleCall(
            name,
            self.owned[name],
            self.plan,
            forward,
            spec,
            tuple(leaves),
            places,
            step,
            sources,
            self.ledger,
        )
        anchor = torch.zeros((), requires_grad=True, device=next(iter(self.parameters.values())).device)
        self.mode.paused = True
        try:
            outcome: list[Any] = []
            outputs = RecordByRecord.apply(anchor, call, outcome, *(leaves[place] for place in places))  # type: ignore[no-untyped-call]
        finally:
            self.mode.paused = False
        flat, tree = outcome
        produced = iter(outputs)
        return tree_unflatten([next(produced) if isinstance(leaf, Tensor) else leaf for leaf in flat], tree)
