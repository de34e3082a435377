"""The refusal of models whose per-record gradients cannot be had exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from dpaudit.errors import DpauditError

_HOOKS = "tensors saved for the backward pass are packed or recomputed"


class UnsupportedModelError(DpauditError):
    """A model whose per-record gradients cannot be had exactly; the message names the layer or parameter."""


@contextmanager
def no_recomputation() -> Iterator[None]:
    """Refuse forward passes that recompute saved tensors later, where their parameters would go unseen.

    Raises:
      UnsupportedModelError: activation checkpointing or another hook on saved tensors is at work.
    """
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks(_HOOKS):
            yield
    except RuntimeError as error:
        if _HOOKS not in str(error):
            raise
        raise UnsupportedModelError(
            f"{_HOOKS}, where the use of parameters cannot be seen",
            "Switch activation checkpointing and offloading off, or use clipping='per_sample'.",
        ) from error


class RaggedBagsRefused(TorchFunctionMode):
    """Refuse bags given by offsets into one list, which has no dimension that enumerates records."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a call, unless it is such a one."""
        refuse_ragged_bags(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def refuse_ragged_bags(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise UnsupportedModelError for an embedding bag with offsets."""
    offsets = args[2] if len(args) > 2 else kwargs.get("offsets")
    if func is F.embedding_bag and offsets is not None:
        raise UnsupportedModelError(
            "embedding_bag is given ragged bags by offsets, so its records cannot be told apart",
            "Give it indices of shape (batch, length), filled up with padding_idx, and no offsets.",
        )
