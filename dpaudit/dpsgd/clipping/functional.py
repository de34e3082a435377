"""The clipped gradients of one batch, as a function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from weakref import WeakKeyDictionary, ref

from torch import Tensor, nn

from dpaudit.dpsgd.clipping.choice import Clipping
from dpaudit.dpsgd.clipping.engine import ClippingEngine, EngineMemory
from dpaudit.dpsgd.clipping.factors import ClipFunction
from dpaudit.dpsgd.clipping.groups import Grouping
from dpaudit.dpsgd.clipping.probe import Loss
from dpaudit.dpsgd.clipping.result import ClippedGradients

_MEMORIES: WeakKeyDictionary[nn.Module, dict[Any, EngineMemory]] = WeakKeyDictionary()


def clipped_gradients(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Loss,
    *,
    clip_norm: float | Mapping[str, float],
    clipping: Clipping = "bk_mix_opt",
    mask: Tensor | None = None,
    groups: Grouping = "flat",
    clip_function: Literal["abadi", "automatic"] | ClipFunction = "abadi",
    nonfinite: Literal["zero", "raise"] = "zero",
) -> ClippedGradients:
    """Sum over records the clipped per-record gradients of a batch.

    Exact, in every mode, for every model that is not refused: the result is that of one backward pass for
    each record. In float64 norms and sums are within 1e-10 of it, relative. In float32, norms are within 1e-4
    and sums within 1e-5 of those in float64. With bfloat16, by autocast or throughout, norms, factors and
    sums are computed in float32 from what the model computed in bfloat16: within 3e-2.

    At the edges: an empty batch gives zero sums and no norms. Where every record is masked, sums, norms and
    factors are zero. A record whose gradient is not finite adds exactly zero and is marked in `refused`, or
    raises; in a masked record it goes unnoticed. Where nothing is trained, `sums` is empty, norms are zero,
    and the losses are there. A loss that is reduced over the batch has the wrong shape and is refused; one
    that is divided by the batch size is refused as it depends on the other records (not in mode
    "per_sample", which sees every record alone).

    Args:
      model: any module; BatchNorm in training mode and other layers that mix records are refused by name.
      inputs: a tensor, a tuple of positional or a dict of keyword arguments of the model, batch first.
      targets: passed to the loss.
      loss: loss(outputs, targets) gives one value for each record, shape (batch,).
      clip_norm: bound C on each record's gradient norm, positive; or one for each group.
      clipping: "per_sample" (torch.func, the oracle), "ghost" and "mixed_ghost" (two backward passes,
        arXiv:2205.10683), "bk", "bk_mix_ghost" and "bk_mix_opt" (one, arXiv:2210.00038).
      mask: bool (batch,); records where it is False count for nothing.
      groups: parameters to clip together: "flat", "per_layer", or a group's name for each parameter.
      clip_function: "abadi", "automatic", or a function of (norms, C).
      nonfinite: "zero" or "raise", for a record whose gradient is not finite.

    Returns:
      `ClippedGradients`: no noise is added, nothing is divided by the batch size, `.grad` is left alone.

    Raises:
      UnsupportedModelError: the gradients cannot be had exactly; names the layer or parameter.
      ValueError: an argument, or the shape of the losses, is wrong.
    """
    engine = ClippingEngine(
        model, loss, clip_norm=clip_norm, clipping=clipping, groups=groups,
        clip_function=clip_function, nonfinite=nonfinite, memory=_memory_of(model, loss, clipping),
    )  # fmt: skip
    return engine(inputs, targets, mask)


def _memory_of(model: nn.Module, loss: Loss, clipping: Clipping) -> EngineMemory:
    """Go on from earlier calls, so that repeated ones do not probe again.

    A loss that is a function is known by its code, another callable by a weak reference, so that neither it
    nor a model that it closes over is kept alive.
    """
    known = _MEMORIES.setdefault(model, {})
    return known.setdefault((getattr(loss, "__code__", None) or ref(loss), clipping), EngineMemory())
