"""Run a model with other tensors in place of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def places_of(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Name the parameter at every place of a model that holds one of `parameters`.

    A tied parameter has several places; a module used under two names has one, as filling one place twice
    would leave the replacement behind in the model.
    """
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {
        f"{prefix}.{attribute}" if prefix else attribute: names[id(held)]
        for prefix, module in model.named_modules()
        for attribute, held in module._parameters.items()
        if held is not None and id(held) in names
    }


def call_with(
    model: nn.Module, places: Mapping[str, str], values: Mapping[str, Tensor], *args: Any, **kwargs: Any
) -> Any:
    """Call a model with `values`, by the names of the parameters, at `places`."""
    given = {place: values[name] for place, name in places.items()}
    return functional_call(model, given, args, kwargs, tie_weights=False)
