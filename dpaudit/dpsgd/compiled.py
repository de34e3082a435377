"""Clipped gradients as one compiled graph: forward, backward, norms, factors and sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from dpaudit.dpsgd.clipping.batches import count_records
from dpaudit.dpsgd.clipping.engine import ClippingEngine
from dpaudit.dpsgd.clipping.plan import Plan
from dpaudit.dpsgd.clipping.result import ClippedGradients
from dpaudit.dpsgd.clipping.unsupported import UnsupportedModelError

_WAY_OUT = "Train without compile, or with clipping='per_sample'."


class CompiledEngine(ClippingEngine):
    """A clipping engine whose every call is one graph, compiled once for each shape.

    `torch.compile` cannot look into the backward pass of a custom autograd function. So the operations of a
    whole call, backward included, are recorded while they run, and the record is compiled. Parameters and
    buffers are inputs of the graph: it follows every update. With masked fixed shapes there is one shape,
    and one compilation for a whole run.

    A batch with a record whose gradient is not finite is computed again, uncompiled. What depends on values
    cannot be recorded: a model that asks for one, and embeddings by a rule (they look for repeated rows),
    are refused. Dropout draws other masks than it does uncompiled.

    Args:
      model: as for `ClippingEngine`.
      loss: likewise.
      backend: of `torch.compile`.
      **options: of `ClippingEngine`.
    """

    def __init__(
        self, model: nn.Module, loss: Any, *, backend: str | Callable[..., Any] = "inductor", **options: Any
    ) -> None:
        super().__init__(model, loss, **options)
        self.backend, self.chooser.fused = backend, True
        self._graphs: dict[Any, Callable[..., Any]] = {}
        self._recording = False
        self._plan: Plan | None = None
        self._spoilt: Tensor | None = None

    @property
    def compilations(self) -> int:
        """Number of graphs compiled so far."""
        return len(self._graphs)

    def __call__(self, inputs: Any, targets: Any, mask: Tensor | None = None) -> ClippedGradients:
        """Compute the clipped gradients of one batch; see `ClippingEngine`."""
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        batch = count_records(inputs)
        if not parameters or not batch:
            return super().__call__(inputs, targets, mask)
        device = next(iter(parameters.values())).device
        keep = torch.ones(batch, dtype=torch.bool) if mask is None else mask
        tensors, rest = pytree.tree_flatten((inputs, targets, keep.to(device)))
        key = (_signature(tensors), rest, _surroundings(self.model, device.type))
        if key not in self._graphs:
            self._graphs[key] = self._compiled(tensors, rest, parameters, batch)
        with torch.no_grad():
            spoilt, sums, *others = self._graphs[key](_state(self.model), tensors)
        if bool(spoilt):  # the one host synchronisation; blanking records costs a pass over every layer
            return super().__call__(inputs, targets, mask)
        return ClippedGradients(dict(zip(parameters, sums, strict=True)), *others)

    def _compiled(
        self, tensors: list[Any], rest: pytree.TreeSpec, parameters: dict[str, nn.Parameter], batch: int
    ) -> Callable[..., Any]:
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            super().__call__(*pytree.tree_unflatten(tensors, rest))  # finds plan and routes, refuses models

            def call(state: list[Tensor], tensors: list[Any]) -> tuple[Any, ...]:
                # `state` holds the model's own tensors, and is how their uses become those of an input.
                inputs, targets, keep = pytree.tree_unflatten(tensors, rest)
                found = self._recorded(inputs, targets, keep, parameters, batch)
                sums = [found.sums[name] for name in parameters]
                return self._spoilt, sums, found.norms, found.losses, found.factors, found.refused

            self._recording = True
            try:
                graph = make_fx(call)(_state(self.model), tensors)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise UnsupportedModelError(f"the model cannot be compiled: {reason}", _WAY_OUT) from error
            finally:
                self._recording = False
        _refuse_shapes_by_value(graph)
        return torch.compile(graph, backend=self.backend, fullgraph=True, dynamic=False)

    def _recorded(
        self, inputs: Any, targets: Any, keep: Tensor, parameters: dict[str, nn.Parameter], batch: int
    ) -> ClippedGradients:
        if self._plan is None:
            return self._per_sample(inputs, targets, parameters, batch, keep)
        return self._booked(inputs, targets, parameters, batch, keep, self._plan)

    def _booked(self, *batch_and_plan: Any) -> ClippedGradients:
        self._plan = batch_and_plan[-1]
        return super()._booked(*batch_and_plan)

    def _any(self, flags: Tensor) -> bool:
        """While recording no value is known: whether a record is spoilt becomes an output of the graph."""
        if self._recording:
            self._spoilt = flags.any()
            return False
        return super()._any(flags)


def _refuse_shapes_by_value(graph: GraphModule) -> None:
    """Refuse a record in which a size came from the values of an input: another batch may have another."""
    dependent: set[Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder" or not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
            if torch.Tag.dynamic_output_shape in getattr(node.target, "tags", ()):
                raise UnsupportedModelError(
                    f"the model cannot be compiled: {node.target} gives a size that depends on values",
                    _WAY_OUT,
                )
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _state(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _signature(tensors: Iterable[Any]) -> tuple[Any, ...]:
    """Shapes and types of tensors; values of everything else, which the graph has built in."""
    return tuple(
        (tuple(one.shape), one.dtype, one.device) if isinstance(one, Tensor) else one for one in tensors
    )


def _surroundings(model: nn.Module, device: str) -> tuple[Any, ...]:
    """What else decides on the operations: modes of modules, frozen parameters, autocast."""
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    modes = tuple(module.training for module in model.modules())
    return modes, tuple(parameter.requires_grad for parameter in model.parameters()), autocast
