"""Linear layers: ghost norms and book-kept sums without per-record weight gradients.

For inputs a (T, d) and output gradients g (T, p) of one record the weight gradient is g^T a. Its squared
norm is <a a^T, g g^T> (arXiv:2205.10683 equation 2), and the weighted sum over records is one product with
the factors folded into the smaller side (arXiv:2210.00038).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.books import zero_records
from dpaudit.dpsgd.clipping.processor import each_thread, known_to_kernels, recording, suits_kernels
from dpaudit.dpsgd.clipping.products import Fastest, first_way, multiplied, multiplied_each

# Both Gram panels of a block should stay in the second-level cache of a CPU core (about 1 MiB), and be
# large enough to fill a GPU.
_PANEL_BYTES = {"cpu": 2**20, "cuda": 2**28}
_BLOCK_ROWS = {"cpu": 128, "cuda": 1024}


class LinearBook:
    """Inputs (batch, T, d) and output gradients (batch, T, p) of a weight (p, d), or (d, p) if transposed."""

    __slots__ = ("fastest", "grads", "inputs", "transposed")

    def __init__(
        self, inputs: Tensor, grads: Tensor, transposed: bool = False, fastest: Fastest = first_way
    ) -> None:
        self.inputs, self.grads, self.transposed, self.fastest = inputs, grads, transposed, fastest

    def squared_norms(self) -> Tensor:
        """Ghost norms."""
        return gram_squared_norms(self.inputs, self.grads)

    @property
    def reach(self) -> Tensor:
        """The largest norm that these gradients could have, were none to cancel another, (batch,)."""
        lengths: Tensor = torch.linalg.vector_norm(self.inputs, dim=2)
        lengths *= torch.linalg.vector_norm(self.grads, dim=2)
        return lengths.sum(1)

    def per_record(self, records: slice) -> Tensor:
        """Instantiate the weight gradients of some records."""
        left, right = (self.inputs, self.grads) if self.transposed else (self.grads, self.inputs)
        return multiplied_each(self.fastest, "gradients", left[records].transpose(1, 2), right[records])

    def weighted_sum(self, factors: Tensor) -> Tensor:
        """One product over records and positions."""
        inputs, grads = self.inputs, self.grads
        scale = factors.to(inputs.dtype).view(-1, 1, 1)
        if inputs.shape[2] <= grads.shape[2]:
            inputs = inputs * scale
        else:
            grads = grads * scale
        left, right = (inputs, grads) if self.transposed else (grads, inputs)
        sides = (side.reshape(-1, side.shape[2]).t() for side in (left, right))
        return multiplied(self.fastest, "weight gradient", *sides)

    def take(self, records: slice) -> LinearBook:
        """Keep some records."""
        return self._with(self.inputs[records], self.grads[records])

    @property
    def size(self) -> int:
        """Numbers held."""
        return self.inputs.numel() + self.grads.numel()

    def without(self, bad: Tensor) -> LinearBook:
        """Zero some records on both sides, as zero times nan is nan."""
        return self._with(zero_records(self.inputs, bad), zero_records(self.grads, bad))

    def joined(self, other: LinearBook) -> LinearBook:
        """Join two uses of one weight: the positions of both, one after the other."""
        return self._with(torch.cat((self.inputs, other.inputs), 1), torch.cat((self.grads, other.grads), 1))

    def _with(self, inputs: Tensor, grads: Tensor) -> LinearBook:
        return LinearBook(inputs, grads, self.transposed, self.fastest)


def gram_squared_norms(inputs: Tensor, grads: Tensor) -> Tensor:
    """Squared norms of sum_t grads_t inputs_t^T, from the two Gram matrices.

    Exploits their symmetry, and holds few of their rows at once, so that memory is bounded whatever T.

    Args:
      inputs: (batch, T, d).
      grads: (batch, T, p).

    Returns:
      (batch,), non-negative; no smaller than they are for being rounded.
    """
    batch, length, _ = inputs.shape
    if length == 1:
        return inputs[:, 0].square().sum(1) * grads[:, 0].square().sum(1)
    if recording() and known_to_kernels(inputs, grads):
        from dpaudit.dpsgd.clipping.operators import gram_norms_operator

        recorded: Tensor = gram_norms_operator(inputs.contiguous(), grads.contiguous())
        return recorded.clamp(min=0)
    norms = inputs.new_zeros(batch)
    if inputs.stride(2) == grads.stride(2) == 1 and suits_kernels(inputs, grads):
        from dpaudit.dpsgd.clipping.gram_kernels import gram_norms

        each_thread(gram_norms, batch, (inputs.contiguous(), grads.contiguous(), norms))
        return norms.clamp_(min=0)
    kind = "cuda" if inputs.is_cuda else "cpu"
    rows = min(_BLOCK_ROWS[kind], length)
    chunk = max(1, _PANEL_BYTES[kind] // (2 * rows * length * inputs.element_size()))
    for start in range(0, batch, chunk):
        records = slice(start, start + chunk)
        norms[records] = _gram_in_blocks(inputs[records], grads[records], rows)
    return norms.clamp_(min=0)


def _gram_in_blocks(inputs: Tensor, grads: Tensor, rows: int) -> Tensor:
    total, reach = inputs.new_zeros(inputs.shape[0]), inputs.new_zeros(inputs.shape[0])
    for start in range(0, inputs.shape[1], rows):
        left, right = inputs[:, start:], grads[:, start:]
        panel = torch.bmm(left[:, :rows], left.transpose(1, 2))
        panel *= torch.bmm(right[:, :rows], right.transpose(1, 2))
        reach += own_terms(panel[:, :, :rows])
        if panel.shape[2] <= rows:  # the last block is square: it has no mirror image
            total += panel.sum((1, 2))
        else:
            total += 2 * panel.sum((1, 2)) - panel[:, :, :rows].sum((1, 2))
    return total + rounding(reach)


def own_terms(products: Tensor) -> Tensor:
    """Sum |inputs_t| |grads_t| over positions t, from the products of both Gram matrices, (batch, T, T)."""
    return products.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt().sum(1)


# The same as `gram_kernels.ROUNDING`, which cannot be imported here without its compiler; a test compares.
ROUNDING = 8.0


def rounding(reach: Tensor) -> Tensor:
    """What a squared norm from Gram matrices may lack by rounding; see `gram_kernels.ROUNDING`."""
    return ROUNDING * torch.finfo(reach.dtype).eps * reach.square()
