"""Embeddings: gradients that live on the rows that a record looked up."""

from __future__ import annotations

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.books import zero_records
from dpaudit.dpsgd.clipping.linear import LinearBook


class EmbeddingBook:
    """Indices (batch, T) into a table (rows, d), with the gradients (batch, T, d) of what was looked up.

    Positions that hold the padding index carry no gradient, as in PyTorch: theirs are set to zero here.
    """

    __slots__ = ("grads", "indices", "rows")

    def __init__(self, indices: Tensor, grads: Tensor, rows: int, padding_index: int | None) -> None:
        if padding_index is not None:
            grads = grads.masked_fill((indices == padding_index).unsqueeze(2), 0)
        self.indices, self.grads, self.rows = indices, grads, rows

    def squared_norms(self) -> Tensor:
        """Add up repeated look-ups of one row by one record, then square."""
        batch, length = self.indices.shape
        if length == 1:
            return self.grads[:, 0].square().sum(1)
        record = torch.arange(batch, device=self.indices.device).unsqueeze(1)
        keys, place = torch.unique(record * self.rows + self.indices, return_inverse=True)
        rows = self.grads.new_zeros(len(keys), self.grads.shape[2])
        rows.index_add_(0, place.reshape(-1), self.grads.reshape(-1, self.grads.shape[2]))
        owner = torch.div(keys, self.rows, rounding_mode="floor")
        return self.grads.new_zeros(batch).index_add_(0, owner, rows.square().sum(1))

    @property
    def reach(self) -> Tensor:
        """The largest norm that these gradients could have, were none to cancel another, (batch,)."""
        lengths: Tensor = torch.linalg.vector_norm(self.grads, dim=2)
        return lengths.sum(1)

    def per_record(self, records: slice) -> Tensor:
        """Whole tables, one for each record."""
        indices, grads = self.indices[records], self.grads[records]
        tables = grads.new_zeros(len(indices), self.rows, grads.shape[2])
        return tables.scatter_add_(1, indices.unsqueeze(2).expand(grads.shape), grads)

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """One scatter over all records."""
        grads = self.grads * factors.to(self.grads.dtype).view(-1, 1, 1)
        table = grads.new_zeros(self.rows, grads.shape[2])
        return table.index_add_(0, self.indices.reshape(-1), grads.reshape(-1, grads.shape[2]))

    @property
    def size(self) -> int:
        """Numbers held."""
        return self.indices.numel() + self.grads.numel()

    def without(self, bad: Tensor) -> EmbeddingBook:
        """Zero some records."""
        return EmbeddingBook(self.indices, zero_records(self.grads, bad), self.rows, None)

    def twice_inner_products(self, head: LinearBook) -> Tensor:
        """Twice <gradient through the table, gradient through a linear layer that shares it>, (batch,).

        The table's gradient is sum_t e(token_t) g_t^T and the head's sum_s h_s x_s^T, so the inner product is
        sum_st h_s[token_t] <g_t, x_s>: no table is formed.
        """
        products = torch.bmm(head.inputs, self.grads.transpose(1, 2))
        index = self.indices.unsqueeze(1).expand(-1, head.grads.shape[1], -1)
        return 2 * (products * head.grads.gather(2, index)).sum((1, 2))
