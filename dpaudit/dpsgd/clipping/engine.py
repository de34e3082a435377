"""Clipped per-record gradients of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dpaudit.dpsgd.clipping.allotment import Candidate
from dpaudit.dpsgd.clipping.batches import call_model, check_losses, count_records
from dpaudit.dpsgd.clipping.books import GradientBook
from dpaudit.dpsgd.clipping.choice import CLIPPING_MODES, Clipping, LayerChoice, RouteChooser
from dpaudit.dpsgd.clipping.factors import ClipFunction, clip_factors, resolve_clip_function
from dpaudit.dpsgd.clipping.groups import ClippingGroups, Grouping, make_groups
from dpaudit.dpsgd.clipping.interception import BookingMode
from dpaudit.dpsgd.clipping.ledger import Ledger
from dpaudit.dpsgd.clipping.memory import book_budget, device_of, instantiation_budget, saved_for_backward
from dpaudit.dpsgd.clipping.per_sample import per_sample_gradients, squared_norms
from dpaudit.dpsgd.clipping.plan import Plan, StalePlan
from dpaudit.dpsgd.clipping.planning import make_plan
from dpaudit.dpsgd.clipping.probe import Loss
from dpaudit.dpsgd.clipping.record_axis import RecordsNotSeparable
from dpaudit.dpsgd.clipping.refusals import refuse_layers
from dpaudit.dpsgd.clipping.result import ClippedGradients, masked, nothing, zeros_like_sum
from dpaudit.dpsgd.clipping.sources import tensors_in
from dpaudit.dpsgd.clipping.unsupported import RaggedBagsRefused, UnsupportedModelError, no_recomputation
from dpaudit.dpsgd.clipping.wrapped_modules import BookingWrapper, owned_parameters, wrapped_modules


@dataclass(slots=True)
class EngineMemory:
    """What engines of one model, loss and mode found out; it holds neither model nor loss."""

    plans: dict[tuple[Any, ...], Plan] = field(default_factory=dict)
    choices: dict[tuple[object, ...], LayerChoice] = field(default_factory=dict)
    candidates: dict[tuple[object, ...], tuple[Candidate, ...]] = field(default_factory=dict)


class ClippingEngine:
    """Compute clipped gradients of one model, batch after batch.

    The first batch probes the model and, in mode "bk_mix_opt", measures the routes of its large layers;
    later batches reuse what was found. A batch that the model treats in another way than the probe saw is
    probed again.

    Args:
      model: to differentiate. Its parameters, `.grad` included, are left as they are.
      loss: loss(outputs, targets) gives one value for each record, shape (batch,).
      clip_norm: bound C on each record's gradient norm, or one for each group.
      clipping: the mode.
      groups: parameters to clip together: "flat", "per_layer", or a group's name for each parameter.
      clip_function: "abadi" min(1, C / norm), "automatic" C / (norm + 0.01), or a function of (norms, C).
      nonfinite: what happens to a record whose gradient is not finite: "zero" (it adds exactly zero, and is
        marked in `refused`) or "raise".
      memory_budget: bytes of per-record gradients that one layer may hold; a quarter of the free memory of a
        CUDA device, else 1 GiB.
      measure: time the routes of large layers; False chooses by a model of the costs, the same on every
        machine.
      memory: what an earlier engine of this model, loss and mode found out.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        clip_norm: float | Mapping[str, float],
        clipping: Clipping = "bk_mix_opt",
        groups: Grouping = "flat",
        clip_function: Literal["abadi", "automatic"] | ClipFunction = "abadi",
        nonfinite: Literal["zero", "raise"] = "zero",
        memory_budget: int | None = None,
        measure: bool = True,
        memory: EngineMemory | None = None,
    ) -> None:
        if clipping not in CLIPPING_MODES:
            raise ValueError(f"clipping must be one of {', '.join(CLIPPING_MODES)}, got {clipping!r}")
        if nonfinite not in ("zero", "raise"):
            raise ValueError(f"nonfinite must be 'zero' or 'raise', got {nonfinite!r}")
        self.model, self.loss, self.nonfinite = model, loss, nonfinite
        self.clip_function = resolve_clip_function(clip_function)
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.groups: ClippingGroups = make_groups(names, groups, clip_norm)
        budget = memory_budget if memory_budget is not None else instantiation_budget(model)
        memory = EngineMemory() if memory is None else memory
        self.chooser = RouteChooser(clipping, budget, measure, memory.choices, memory.candidates)
        self._plans = memory.plans

    @property
    def choices(self) -> dict[str, LayerChoice]:
        """The route of each layer with a choice, by parameter, as of the latest batch."""
        return dict(self.chooser.layers)

    def __call__(self, inputs: Any, targets: Any, mask: Tensor | None = None) -> ClippedGradients:
        """Compute the clipped gradients of one batch.

        Args:
          inputs: a tensor, a tuple of positional or a dict of keyword arguments of the model; tensors whose
            first dimension is the batch are per record, others are shared.
          targets: passed to the loss; any nesting of tensors, or None.
          mask: bool (batch,); records where it is False count for nothing, whatever they hold.

        Raises:
          UnsupportedModelError: the gradients cannot be had exactly; names the layer or parameter.
          ValueError: wrong shapes of loss or mask; a non-finite gradient where `nonfinite` is "raise".
        """
        parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if parameters.keys() != self.groups.index.keys():
            raise ValueError("the trainable parameters changed since the engine was made; make a new one")
        batch = count_records(inputs)
        keep = _check_mask(mask, batch, device_of(self.model))
        refuse_layers(self.model)
        if batch == 0:
            return nothing(parameters, len(self.groups.clip_norms))
        if not parameters:
            return self._without_parameters(inputs, targets, batch, keep)
        if self.chooser.clipping == "per_sample":
            return self._per_sample(inputs, targets, parameters, batch, keep)
        rows = _probed_rows(batch, mask)
        key = (len(rows), *self._signature(parameters, inputs, targets))
        if key in self._plans:
            try:
                return self._booked(inputs, targets, parameters, batch, keep, self._plans[key])
            except (StalePlan, RecordsNotSeparable):
                del self._plans[key]
        self._plans[key] = make_plan(self.model, inputs, targets, self.loss, parameters, batch, rows)
        try:
            return self._booked(inputs, targets, parameters, batch, keep, self._plans[key])
        except (StalePlan, RecordsNotSeparable) as error:
            raise UnsupportedModelError(
                f"the model's operations on parameters change from one forward pass to the next: {error}",
                "Use clipping='per_sample'.",
            ) from error

    def _booked(
        self,
        inputs: Any,
        targets: Any,
        parameters: dict[str, nn.Parameter],
        batch: int,
        keep: Tensor | None,
        plan: Plan,
    ) -> ClippedGradients:
        ledger = Ledger(parameters, batch, self.groups, self.chooser)
        losses = self._forward(inputs, targets, parameters, batch, plan, ledger)
        total = losses.sum() if keep is None else torch.where(keep, losses, 0).sum()
        precise = torch.autocast(total.device.type, enabled=False)  # books, norms and sums are in float32
        with precise, _grads_set_aside(parameters):
            self._backward(total, parameters, retain=self.chooser.two_passes)
            with torch.no_grad():
                norms, factors, refused, spoilt = self._clip(ledger.squared_norms(), keep)
                ledger.set_factors(factors, spoilt)
            if self.chooser.two_passes:
                self._backward(total, parameters, retain=False)
        self.chooser.settle(batch, book_budget(parameters.values(), (plan.saved or 0) * batch))
        sums = {
            name: ledger.sums[name] if name in ledger.sums else zeros_like_sum(p)
            for name, p in parameters.items()
        }
        return ClippedGradients(sums, norms, masked(losses.detach(), keep), factors, refused)

    def _forward(
        self,
        inputs: Any,
        targets: Any,
        parameters: Mapping[str, Tensor],
        batch: int,
        plan: Plan,
        ledger: Ledger,
    ) -> Tensor:
        mode = BookingMode(parameters, plan, ledger)
        modules = frozenset(name for name, _ in plan.modules)
        owned = owned_parameters(self.model, modules, parameters) if modules else {}
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            if plan.saved is None:  # once; the probe has seen that nothing is recomputed
                blocks = stack.enter_context(saved_for_backward(parameters.values()))
            else:
                stack.enter_context(no_recomputation())
            if modules:
                wrapper = BookingWrapper(parameters, plan, ledger, mode, owned)
                stack.enter_context(wrapped_modules(self.model, modules, wrapper))
            stack.enter_context(mode)
            losses = self.loss(call_model(self.model, inputs), targets)
        if plan.saved is None:
            plan.saved = sum(blocks.values()) / batch
        return check_losses(losses, batch)

    def _backward(self, total: Tensor, parameters: Mapping[str, nn.Parameter], *, retain: bool) -> None:
        """Fill the ledger; a gradient that reaches a parameter itself was seen by no rule: an error."""
        for parameter in parameters.values():
            parameter.grad = None
        if total.requires_grad:
            total.backward(retain_graph=retain)  # type: ignore[no-untyped-call]
        missed = [name for name, parameter in parameters.items() if parameter.grad is not None]
        if missed:
            raise UnsupportedModelError(
                f"parameter {missed[0]!r} is used where its per-record gradient cannot be seen",
                "Compiled, scripted or checkpointed code hides its operations; run it as plain modules, or "
                "use clipping='per_sample'.",
            )

    def _clip(self, squares: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """From squares (groups, batch): norms, factors, refused records, records to blank (None: none)."""
        total = squares.sum(0)
        bad = ~torch.isfinite(total)
        refused = bad if keep is None else bad & keep
        spoilt = bad if self._any(bad) else None
        if spoilt is not None:
            if self.nonfinite == "raise" and bool(refused.any()):
                records = refused.nonzero().flatten().tolist()
                raise ValueError(f"gradient of record {records[0]} of the batch is not finite")
            squares = squares.masked_fill(bad, 0)
        norms = squares.sqrt()
        factors = torch.stack(
            [
                clip_factors(self.clip_function, norm, c)
                for norm, c in zip(norms, self.groups.clip_norms, strict=True)
            ]
        )
        if keep is not None:
            factors = factors * keep
        if spoilt is not None:
            factors = factors.masked_fill(bad, 0)
        return masked(total.sqrt(), keep), factors, refused, spoilt

    def _any(self, flags: Tensor) -> bool:
        return bool(flags.any())  # the one host synchronisation of a step

    def _per_sample(
        self, inputs: Any, targets: Any, parameters: Mapping[str, Tensor], batch: int, keep: Tensor | None
    ) -> ClippedGradients:
        budget = self.chooser.memory_budget
        with RaggedBagsRefused():
            gradients, losses = per_sample_gradients(
                self.model, inputs, targets, self.loss, parameters, batch, budget
            )
        like = next(iter(gradients.values()))
        squares = squared_norms(gradients, self.groups, batch, like).detach()
        norms, factors, refused, spoilt = self._clip(squares, keep)
        sums = {}
        with torch.autocast(factors.device.type, enabled=False):
            for name, gradient in gradients.items():
                book = GradientBook(gradient)
                book = book if spoilt is None else book.without(spoilt)
                sums[name] = book.weighted_sum(factors[self.groups.index[name]])
        return ClippedGradients(sums, norms, masked(losses, keep), factors, refused)

    def _without_parameters(
        self, inputs: Any, targets: Any, batch: int, keep: Tensor | None
    ) -> ClippedGradients:
        with torch.no_grad():
            losses = check_losses(self.loss(call_model(self.model, inputs), targets), batch)
        factors = losses.new_ones(len(self.groups.clip_norms), batch)
        none = torch.zeros_like(losses, dtype=torch.bool)
        if keep is not None:
            factors = factors * keep
        return ClippedGradients({}, torch.zeros_like(losses), masked(losses, keep), factors, none)

    def _signature(self, parameters: Mapping[str, Tensor], inputs: Any, targets: Any) -> tuple[Any, ...]:
        """What a plan depends on, as far as can be seen without running the model."""
        modules = tuple((id(module), module.training) for module in self.model.modules())
        ranks = tuple(tensor.dim() for tensor in tensors_in((inputs, targets)))
        return (tuple((name, id(tensor)) for name, tensor in parameters.items()), modules, ranks)


def _probed_rows(batch: int, mask: Tensor | None) -> Tensor:
    """Up to three unmasked records to probe on; fewer show less, so plans differ by their number."""
    if mask is not None and bool(mask.any()):
        return mask.nonzero().flatten()[:3].cpu()
    return torch.arange(min(batch, 3))


@contextmanager
def _grads_set_aside(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Leave `.grad` of every parameter as it was."""
    grads = {name: parameter.grad for name, parameter in parameters.items()}
    try:
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.grad = grads[name]


def _check_mask(mask: Tensor | None, batch: int, device: torch.device) -> Tensor | None:
    if mask is None:
        return None
    if mask.shape != (batch,):
        raise ValueError(f"mask must have shape ({batch},), got {tuple(mask.shape)}")
    return mask.to(device, torch.bool)
