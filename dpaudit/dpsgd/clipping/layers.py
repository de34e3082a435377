"""Calls of linear layers, convolutions and embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dpaudit.dpsgd.clipping.booked_call import Use
from dpaudit.dpsgd.clipping.books import GradientBook
from dpaudit.dpsgd.clipping.convolution import ConvolutionBook
from dpaudit.dpsgd.clipping.convolution_products import Geometry, input_gradient
from dpaudit.dpsgd.clipping.embedding import EmbeddingBook
from dpaudit.dpsgd.clipping.linear import LinearBook
from dpaudit.dpsgd.clipping.products import multiplied
from dpaudit.dpsgd.clipping.routes import LayerBook, Route


@dataclass(frozen=True, slots=True)
class LinearLayer:
    """y = x W^T + b, with W (p, d), or (d, p) if transposed."""

    use: Use
    weight: Tensor
    bias: Tensor | None
    transposed: bool = False

    def forward(self, data: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the output; keep the input."""
        weight = self.weight.t() if self.transposed else self.weight
        return multiplied(self.use.ledger.chooser.fastest, "outputs", data, weight, self.bias), (data,)

    def backward(self, saved: tuple[Tensor, ...], grad: Tensor, wants_input: bool) -> Tensor | None:
        """Book weight and bias."""
        (data,) = saved
        inputs = _flat_positions(self.use.records_first(data))
        grads = _flat_positions(self.use.records_first(grad)).to(inputs.dtype)
        ledger, length = self.use.ledger, inputs.shape[1]
        if self.use.weight is not None:
            book = LinearBook(inputs, grads, self.transposed, self.use.ledger.chooser.fastest)
            ledger.add_layer(self.use.weight, book, _linear_routes, ("linear", length), length)
        if self.use.bias is not None:
            ledger.add(self.use.bias, GradientBook(grads[:, 0] if length == 1 else grads.sum(1)))
        if not wants_input:
            return None
        weight = self.weight.to(grad.dtype)
        back = weight if self.transposed else weight.t()
        return multiplied(self.use.ledger.chooser.fastest, "input gradient", grad, back).to(data.dtype)


@dataclass(frozen=True, slots=True)
class ConvolutionLayer:
    """A convolution; its input is (images, channels, *space)."""

    use: Use
    weight: Tensor
    bias: Tensor | None
    geometry: Geometry

    def forward(self, data: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the output; keep the input."""
        shape = self.geometry
        output = torch.convolution(
            data, self.weight, self.bias, shape.stride, shape.padding, shape.dilation,
            shape.transposed, shape.output_padding, shape.groups,
        )  # fmt: skip
        return output, (data,)

    def backward(self, saved: tuple[Tensor, ...], grad: Tensor, wants_input: bool) -> Tensor | None:
        """Book weight and bias."""
        (data,) = saved
        inputs, grads = self._images(data), self._images(grad)
        ledger = self.use.ledger
        if self.use.weight is not None:
            book = ConvolutionBook(
                inputs, grads.to(inputs.dtype), self.geometry, self.weight.shape, ledger.chooser.fastest
            )
            key = ("convolution", *inputs.shape[1:])
            ledger.add_layer(self.use.weight, book, _convolution_routes, key, book.positions)
        if self.use.bias is not None:
            ledger.add(self.use.bias, GradientBook(grads.transpose(1, 2).flatten(2).sum(2)))
        if not wants_input:
            return None
        return input_gradient(data.to(grad.dtype), grad, self.weight.to(grad.dtype), self.geometry).to(
            data.dtype
        )

    def _images(self, tensor: Tensor) -> Tensor:
        """(batch, images of one record, channels, *space), contiguous."""
        tensor = self.use.records_first(tensor)
        return (tensor if self.use.axis.folded else tensor.unsqueeze(1)).contiguous()


@dataclass(frozen=True, slots=True)
class EmbeddingLayer:
    """A look-up in a table (rows, d)."""

    use: Use
    weight: Tensor
    padding_index: int | None

    def forward(self, data: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the rows; keep the indices."""
        return F.embedding(data, self.weight), (data,)

    def backward(self, saved: tuple[Tensor, ...], grad: Tensor, wants_input: bool) -> None:
        """Book the table."""
        (indices,) = saved
        batch = self.use.ledger.batch
        indices = self.use.axis.records_first(indices, batch).reshape(batch, -1).long()
        grads = _flat_positions(self.use.records_first(grad))
        if self.use.weight is not None:
            rows = self.weight.shape[0]
            self.use.ledger.add(self.use.weight, EmbeddingBook(indices, grads, rows, self.padding_index))


@dataclass(frozen=True, slots=True)
class EmbeddingBagLayer:
    """Sums, or means, of rows of a table (rows, d) that indices (bags, length) look up."""

    use: Use
    weight: Tensor
    padding_index: int | None
    mean: bool

    def forward(self, data: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the sums or means; keep the indices."""
        mode = "mean" if self.mean else "sum"
        return F.embedding_bag(data, self.weight, mode=mode, padding_idx=self.padding_index), (data,)

    def backward(self, saved: tuple[Tensor, ...], grad: Tensor, wants_input: bool) -> None:
        """Book the table: each index of a bag gets the bag's gradient, or its share of it."""
        (indices,) = saved
        batch, rows = self.use.ledger.batch, self.weight.shape[0]
        if self.mean:
            counted = (
                torch.ones_like(indices) if self.padding_index is None else indices != self.padding_index
            )
            grad = grad / counted.sum(1, keepdim=True).clamp(min=1)
        grads = _flat_positions(self.use.records_first(grad.unsqueeze(1).expand(*indices.shape, -1)))
        indices = self.use.axis.records_first(indices, batch).reshape(batch, -1).long()
        if self.use.weight is not None:
            self.use.ledger.add(self.use.weight, EmbeddingBook(indices, grads, rows, self.padding_index))


def _flat_positions(tensor: Tensor) -> Tensor:
    """(batch, ..., features) to (batch, T, features)."""
    return tensor.reshape(tensor.shape[0], -1, tensor.shape[-1])


def _linear_routes(book: LayerBook) -> Sequence[Route]:
    if not isinstance(book, LinearBook):
        raise TypeError(f"expected the book of a linear layer, got {type(book).__name__}")
    batch, length, wide = book.inputs.shape
    high = book.grads.shape[2]
    half = length**2 * (wide + high) / 2  # a Gram matrix is symmetric
    routes = [Route("gram", False, book.squared_norms, half * batch)]
    if length > 1:
        everything = slice(None)
        work = length * wide * high * batch
        routes.append(Route("instantiate", True, lambda: book.per_record(everything), work))
    return routes


def _convolution_routes(book: LayerBook) -> Sequence[Route]:
    if not isinstance(book, ConvolutionBook):
        raise TypeError(f"expected the book of a convolution, got {type(book).__name__}")
    batch, length, size = len(book.inputs), book.positions, book.weight_shape.numel()
    features, groups = math.prod(book.weight_shape[1:]), book.geometry.groups
    gram = length**2 * (features * groups + book.weight_shape[0]) * batch
    work = length * size * batch
    routes = [
        Route("gram of patches", False, book.gram_of_patches, gram),
        Route("instantiate", True, lambda: book.per_record(slice(None)), work),
        Route(
            "instantiate from patches",
            True,
            book.per_record_by_patches,
            work + length * features * groups * batch,
        ),
    ]
    # One call for all records keeps a device busy; a processor gains little, and reorders the whole batch.
    if book.inputs.shape[1] == 1 and book.inputs.is_cuda:
        routes.append(Route("instantiate by groups", True, book.per_record_by_groups, 1.1 * work))
    if book.can_shift:
        shifts = gram if not book.shifts_are_cheaper() else gram / 2
        routes.append(Route("gram by shifts", False, book.gram_by_shifts, shifts))
    return routes
