"""What a probe of the model found: how each use of each parameter is treated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from dpaudit.dpsgd.clipping.record_axis import RecordAxis

#: A call: the function, the parameters behind its arguments, and which of such calls in a forward pass it is.
CallKey = tuple[Callable[..., Any], tuple[str, ...], int]
#: A use of a module: its name, and which of its uses in a forward pass it is.
ModuleKey = tuple[str, int]

Kind = Literal["rule", "derived", "expand", "broadcast", "unsupported"]


class StalePlan(Exception):
    """The model does something that the probe has not seen."""


@dataclass(frozen=True, slots=True)
class Step:
    """How a call is treated: by its rule, as derived from parameters, or as an expansion over the batch."""

    kind: Kind
    axis: RecordAxis | None = None


@dataclass(frozen=True, slots=True)
class ModuleStep:
    """Where the records are in the tensors that go into a module and come out; None: not in that one."""

    inputs: tuple[RecordAxis | None, ...]
    outputs: tuple[RecordAxis | None, ...]


@dataclass(slots=True)
class Plan:
    """The treatment of every call of a forward pass.

    Attributes:
      steps: by call.
      modules: by use, of the modules that are differentiated record by record.
      pairs: the functions and parameters that have steps.
      saved: bytes that the forward pass saves for the backward pass, for each record; None: not yet known.
      mapped: whether torch.func gives the gradients of a module, by name; missing: not yet known.
    """

    steps: dict[CallKey, Step]
    modules: dict[ModuleKey, ModuleStep]
    pairs: frozenset[tuple[Callable[..., Any], tuple[str, ...]]] = field(init=False)
    saved: float | None = None
    mapped: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pairs = frozenset((function, names) for function, names, _ in self.steps)
