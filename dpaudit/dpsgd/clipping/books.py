"""What one use of a parameter leaves behind: enough to give per-record gradients in any form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Book(Protocol):
    """The per-record gradients of one tensor through one use of it, stored or implied."""

    def squared_norms(self) -> Tensor:
        """Squared Euclidean norm of each record's gradient, (batch,)."""

    def per_record(self, records: slice) -> Tensor:
        """Each record's gradient, (records, *shape)."""

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """Sum over records of factor times gradient, of the tensor's shape."""

    @property
    def size(self) -> int:
        """Numbers held."""

    def without(self, bad: Tensor) -> Book:
        """Replace what the records marked in `bad`, bool (batch,), left behind by zeros."""


class GradientBook:
    """Per-record gradients as they are: (batch, *shape)."""

    __slots__ = ("gradients",)

    def __init__(self, gradients: Tensor) -> None:
        self.gradients = gradients

    def squared_norms(self) -> Tensor:
        """Squared norms, (batch,)."""
        return row_squares(self.gradients)

    def per_record(self, records: slice) -> Tensor:
        """The stored gradients of some records."""
        return self.gradients[records]

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """One matrix-vector product."""
        rows = self.gradients.flatten(1) if self.gradients.dim() > 1 else self.gradients.unsqueeze(1)
        return torch.mv(rows.t(), factors.to(rows.dtype)).view(self.gradients.shape[1:])

    @property
    def size(self) -> int:
        """Numbers held."""
        return self.gradients.numel()

    def without(self, bad: Tensor) -> GradientBook:
        """Zero some records."""
        return GradientBook(zero_records(self.gradients, bad))


class BundleBook:
    """Small per-record gradients of several parameters, side by side: one norm and one product for all."""

    __slots__ = ("names", "shapes", "together")

    def __init__(self, gradients: Mapping[str, Tensor]) -> None:
        self.names = tuple(gradients)
        self.shapes = [tensor.shape[1:] for tensor in gradients.values()]
        rows = [tensor.reshape(len(tensor), -1) for tensor in gradients.values()]
        self.together = GradientBook(torch.cat(rows, 1) if len(rows) > 1 else rows[0])

    def squared_norms(self) -> Tensor:
        """Squared norms over all parameters, (batch,)."""
        return self.together.squared_norms()

    def weighted_sums(self, factors: Tensor, bad: Tensor | None) -> dict[str, Tensor]:
        """Weighted sum for each parameter, without the records marked in `bad`; views of one tensor."""
        book = self.together if bad is None else self.together.without(bad)
        parts = torch.split(book.weighted_sum(factors), [shape.numel() for shape in self.shapes])
        return {
            name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }


def row_squares(tensor: Tensor) -> Tensor:
    """Squared Euclidean norm of each row of (batch, ...)."""
    if tensor.dim() == 1:
        return tensor.square()
    norms: Tensor = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return norms.square()


def zero_records(tensor: Tensor, bad: Tensor) -> Tensor:
    """Copy with the records marked in `bad` set to zero, whatever they held."""
    return tensor.masked_fill(bad.view(-1, *[1] * (tensor.dim() - 1)), 0)


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype of norms and sums: float32, or float64 where the parameter is."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
