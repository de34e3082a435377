"""Sites: the coordinates of a model at which one record's whole gradient can be made to live.

A layer's gradient for one record is what came in times what the loss wants of what goes out. With an input
that is zero but for one entry, and a loss that looks at one output alone, it lives at a single coordinate
of one parameter tensor. The record then passes through the layer, the backward pass and the clipping of
the engine under audit as any other does; nothing is added to its sums from outside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

# Entry of the planted input for a weight. The bias beside it then holds 1 / this of the gradient's norm,
# which leaves the weight all but 5e-11 of it.
PLANTED = 1e5

_BIAS_ONLY = (nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True, slots=True)
class Site:
    """One parameter tensor whose every coordinate can carry a canary."""

    tensor: str
    """Name of the parameter in the model."""
    layer: str
    """Name of the module that owns it."""
    part: Literal["weight", "bias"]
    shape: tuple[int, ...]

    @property
    def coordinates(self) -> int:
        """Number of coordinates."""
        return int(torch.Size(self.shape).numel())


def find_sites(model: nn.Module) -> tuple[Site, ...]:
    """List the trainable tensors of a model that canaries can reach, in the order of its parameters.

    Weights and biases of linear and convolutional layers, rows of embeddings, and biases of layer and group
    norms. A parameter that two modules share is left out: its gradient comes from both places.
    """
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    return tuple(site for site in _sites(model) if owners[id(model.get_parameter(site.tensor))] == 1)


def out_of_reach(model: nn.Module) -> dict[str, int]:
    """Give the number of coordinates of each trainable tensor that no canary reaches, by name."""
    reached = {site.tensor for site in find_sites(model)}
    trained = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    return {name: size for name, size in trained.items() if name not in reached}


def _sites(model: nn.Module) -> Iterator[Site]:
    for layer, module in model.named_modules():
        for part in ("weight", "bias"):
            parameter = getattr(module, part, None)
            if isinstance(parameter, nn.Parameter) and parameter.requires_grad and _reaches(module, part):
                yield Site(f"{layer}.{part}" if layer else part, layer, part, tuple(parameter.shape))


def _reaches(module: nn.Module, part: str) -> bool:
    if part == "bias":
        return isinstance(module, (nn.Linear, nn.Conv2d, *_BIAS_ONLY))
    if isinstance(module, nn.Conv2d):
        return isinstance(module.padding, tuple) and module.padding_mode == "zeros"
    if isinstance(module, nn.Embedding):
        return module.max_norm is None
    return isinstance(module, nn.Linear)


def plant(module: nn.Module, part: str, coordinate: Tensor, inputs: Tensor) -> Tensor:
    """Make the inputs of a layer that lead to one coordinate each.

    Args:
      module: the layer.
      part: "weight" or "bias".
      coordinate: flat index into the parameter, int64 (batch,).
      inputs: what the layer would have been fed, (batch, ...); only its shape and type count.

    Returns:
      Inputs of the same shape.
    """
    if isinstance(module, nn.Embedding):
        row = torch.div(coordinate, module.embedding_dim, rounding_mode="floor")
        return row.view(-1, *([1] * (inputs.dim() - 1))).expand_as(inputs).to(inputs.dtype)
    if part == "bias":
        return torch.zeros_like(inputs)
    flat = torch.zeros_like(inputs).flatten(1)
    place = _input_place(module, coordinate, inputs)
    # A comparison instead of a scatter: it also runs under torch.func.
    here = place[:, None] == torch.arange(flat.shape[1], device=flat.device)
    return torch.where(here, PLANTED, flat).view_as(inputs)


def pick(module: nn.Module, part: str, coordinate: Tensor, outputs: Tensor) -> Tensor:
    """Read the one output of each record whose gradient lives at its coordinate alone, (batch,)."""
    flat = outputs.flatten(1)
    return flat.gather(1, _output_place(module, part, coordinate, outputs)[:, None])[:, 0]


def _input_place(module: nn.Module, coordinate: Tensor, inputs: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return coordinate % module.in_features
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"no canary can be planted in a {type(module).__name__}")
    height, width = inputs.shape[2:]
    rows, columns = module.kernel_size
    depth = module.in_channels // module.groups
    group = torch.div(coordinate, rows * columns * depth, rounding_mode="floor") // (
        module.out_channels // module.groups
    )
    channel = group * depth + torch.div(coordinate, rows * columns, rounding_mode="floor") % depth
    row = torch.div(coordinate, columns, rounding_mode="floor") % rows
    top, left = _corner(module, height, 0), _corner(module, width, 1)
    down, right = top + row * module.dilation[0], left + coordinate % columns * module.dilation[1]
    return (channel * height + down) * width + right


def _output_place(module: nn.Module, part: str, coordinate: Tensor, outputs: Tensor) -> Tensor:
    if isinstance(module, nn.Embedding):
        return coordinate % module.embedding_dim
    if isinstance(module, nn.Conv2d):
        height, width = outputs.shape[2:]
        out = coordinate
        if part == "weight":
            fan_in = module.weight[0].numel()
            out = torch.div(coordinate, fan_in, rounding_mode="floor")
        return (out * height + _middle(height)) * width + _middle(width)
    if isinstance(module, nn.GroupNorm):
        return coordinate * outputs[0, 0].numel()
    if isinstance(module, nn.Linear) and part == "weight":
        return torch.div(coordinate, module.in_features, rounding_mode="floor")
    return coordinate


def _middle(outputs: int) -> int:
    """Give an output position whose whole window lies inside the input."""
    return outputs // 2


def _corner(module: nn.Conv2d, inputs: int, axis: int) -> int:
    """Give the first input position of the window at the middle output position."""
    stride, dilation = module.stride[axis], module.dilation[axis]
    padding = int(module.padding[axis])
    outputs = (inputs + 2 * padding - dilation * (module.kernel_size[axis] - 1) - 1) // stride + 1
    return _middle(outputs) * stride - padding
