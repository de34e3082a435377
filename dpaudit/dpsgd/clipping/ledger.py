"""Collect what each use of each parameter leaves behind; turn it into norms and clipped sums."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from dpaudit.dpsgd.clipping.books import Book, BundleBook, GradientBook, row_squares
from dpaudit.dpsgd.clipping.choice import RouteChooser
from dpaudit.dpsgd.clipping.embedding import EmbeddingBook
from dpaudit.dpsgd.clipping.groups import ClippingGroups
from dpaudit.dpsgd.clipping.linear import LinearBook, rounding
from dpaudit.dpsgd.clipping.routes import LayerBook, Route
from dpaudit.dpsgd.clipping.sources import Source

# Gradients of up to this many numbers for each record are treated together: calls would cost more than they.
_SMALL = 2**14


@dataclass(frozen=True, slots=True)
class Entry:
    """One use of one source."""

    source: Source
    book: Book


class Ledger:
    """The books of one batch.

    The forward pass announces each use (`expect`), so that the backward pass knows which parameters have a
    single use: their norms are complete, and taken, as soon as their layer's backward runs. The others wait
    for all uses.

    Args:
      parameters: trainable parameters by name.
      batch: number of records.
      groups: the clipping groups.
      chooser: routes and mode.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], batch: int, groups: ClippingGroups, chooser: RouteChooser
    ) -> None:
        self.parameters, self.batch, self.groups, self.chooser = parameters, batch, groups, chooser
        self.sums: dict[str, Tensor] = {}
        self._uses: Counter[str] = Counter()
        self._single: list[Entry] = []
        self._shared: list[Entry] = []
        self._squares: list[Tensor | None] = [None] * len(groups.clip_norms)
        self._small: defaultdict[tuple[int, torch.dtype], dict[str, Tensor]] = defaultdict(dict)
        self._bundles: list[tuple[int, BundleBook]] = []
        self._factors: Tensor | None = None
        self._refused: Tensor | None = None

    def expect(self, source: Source) -> None:
        """Announce one use."""
        self._uses.update(source.names)

    def add(self, source: Source, book: Book) -> None:
        """Take in per-record gradients that need no choice of route."""
        if self._factors is not None:
            self._add_to_sum(Entry(source, book), self._factors, self._refused)
        elif not self._is_single(source):
            self._shared.append(Entry(source, book))
        elif isinstance(book, GradientBook) and source.is_parameter and book.size <= _SMALL * self.batch:
            kind = (self.groups.index[source.names[0]], book.gradients.dtype)
            self._small[kind][source.names[0]] = book.gradients
        else:
            self._count(source.names[0], book.squared_norms())
            self._keep(Entry(source, book))

    def add_layer(
        self,
        source: Source,
        book: LayerBook,
        routes_of: Callable[[LayerBook], Sequence[Route]],
        key: tuple[object, ...],
        positions: int,
    ) -> None:
        """Take in a layer whose norms can be had by several routes."""
        if self._factors is not None or not self._is_single(source):
            self.add(source, book)
            return
        shape = source.tensor.shape
        route = self.chooser.choose(
            source.names[0], (*key, *shape), book, routes_of, shape, self.batch, positions
        )
        result = route.run()
        if not route.instantiates:
            self._count(source.names[0], result)
            self._keep(Entry(source, book))
            return
        gradients = GradientBook(result)
        self._count(source.names[0], gradients.squared_norms())
        self._keep(Entry(source, gradients if self.chooser.keeps_instantiated else book))

    def squared_norms(self) -> Tensor:
        """Finish and give the squared norms, (groups, batch)."""
        by_name: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in self._shared:
            for name in entry.source.names:
                by_name[name].append(entry)
        for name, entries in by_name.items():
            self._count(
                name, combined_squares(name, self.parameters[name], entries, self.batch, self._chunk(name))
            )
        for (group, _), gradients in self._small.items():
            bundle = BundleBook(gradients)
            self._count(bundle.names[0], bundle.squared_norms())
            self._bundles.append((group, bundle))
        self._small.clear()
        if self.chooser.two_passes:
            self._shared.clear()
            self._bundles.clear()
        any_parameter = next(iter(self.parameters.values()))
        blank = any_parameter.new_zeros(self.batch, dtype=_norm_dtype(self.parameters))
        return torch.stack([blank if square is None else square.to(blank) for square in self._squares])

    def set_factors(self, factors: Tensor, refused: Tensor | None) -> None:
        """From here on entries are summed as they come.

        Args:
          factors: (groups, batch).
          refused: bool (batch,), records whose books hold nan or inf and must be blanked; None if there are
            none.
        """
        self._factors, self._refused = factors, refused
        if self.chooser.two_passes:
            return
        entries = [*self._single, *self._shared]
        self._single.clear()
        self._shared.clear()
        # Each book is freed once it is summed, the largest first: little is left when the sums are many.
        entries.sort(key=lambda entry: entry.book.size)
        while entries:
            self._add_to_sum(entries.pop(), factors, refused)
        for group, bundle in self._bundles:
            self.sums.update(bundle.weighted_sums(factors[group], refused))
        self._bundles.clear()

    def _is_single(self, source: Source) -> bool:
        return source.isometric and len(source.names) == 1 and self._uses[source.names[0]] == 1

    def _keep(self, entry: Entry) -> None:
        if not self.chooser.two_passes:
            self._single.append(entry)

    def _count(self, name: str, squares: Tensor) -> None:
        group = self.groups.index[name]
        known = self._squares[group]
        self._squares[group] = squares if known is None else known + squares

    def _chunk(self, name: str) -> int:
        return max(1, self.chooser.memory_budget // (8 * max(1, self.parameters[name].numel())))

    def _add_to_sum(self, entry: Entry, factors: Tensor, refused: Tensor | None) -> None:
        source = entry.source
        book = entry.book if refused is None else entry.book.without(refused)
        for group in sorted({self.groups.index[name] for name in source.names}):
            names = [name for name in source.names if self.groups.index[name] == group]
            total = book.weighted_sum(factors[group])
            for name, part in zip(
                names, _pull_back(source, [self.parameters[n] for n in names], total), strict=True
            ):
                self.sums[name] = self.sums[name].add_(part) if name in self.sums else part


def _pull_back(source: Source, parameters: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """Carry a gradient of a source back to parameters."""
    if source.is_parameter:
        return [gradient]
    gradients = torch.autograd.grad(
        source.tensor, parameters, gradient.to(source.tensor.dtype), retain_graph=True, allow_unused=True
    )
    return [
        torch.zeros_like(parameter, dtype=gradient.dtype) if part is None else part.to(gradient.dtype)
        for parameter, part in zip(parameters, gradients, strict=True)
    ]


def combined_squares(name: str, parameter: Tensor, entries: list[Entry], batch: int, chunk: int) -> Tensor:
    """Squared norm of each record's gradient of one parameter with several uses, (batch,).

    Cross terms between the uses are exact: several uses of one linear layer join their positions, a table
    shared with an output layer has a closed form, disjoint slices have none; whatever else is instantiated,
    `chunk` records at a time.
    """
    if all(entry.source.is_parameter for entry in entries):
        books = [entry.book for entry in entries]
        linear = [book for book in books if isinstance(book, LinearBook)]
        tables = [book for book in books if isinstance(book, EmbeddingBook)]
        same_way = len({book.transposed for book in linear}) <= 1
        if len(linear) == len(books) and same_way:
            return reduce(LinearBook.joined, linear).squared_norms()
        if len(linear) == len(tables) == 1 and len(books) == 2 and not linear[0].transposed:
            cross = tables[0].twice_inner_products(linear[0]) + rounding(tables[0].reach + linear[0].reach)
            return (tables[0].squared_norms() + linear[0].squared_norms() + cross).clamp_(min=0)
    if _are_disjoint_slices(parameter, [entry.source for entry in entries]):
        return reduce(torch.add, [entry.book.squared_norms() for entry in entries])
    parts = [
        _instantiated_squares(parameter, entries, slice(start, min(start + chunk, batch)))
        for start in range(0, batch, chunk)
    ]
    return torch.cat(parts)


def _are_disjoint_slices(parameter: Tensor, sources: list[Source]) -> bool:
    spans = []
    for source in sources:
        tensor = source.tensor
        shares = tensor.untyped_storage().data_ptr() == parameter.untyped_storage().data_ptr()
        if not (source.isometric and shares and tensor.is_contiguous()):
            return False
        spans.append((tensor.storage_offset(), tensor.storage_offset() + tensor.numel()))
    spans.sort()
    return all(end <= start for (_, end), (start, _) in pairwise(spans))


def _instantiated_squares(parameter: Tensor, entries: list[Entry], records: slice) -> Tensor:
    total: Tensor | None = None
    for entry in entries:
        gradients = entry.book.per_record(records)
        if not entry.source.is_parameter:
            (gradients,) = torch.autograd.grad(
                entry.source.tensor, parameter, gradients.to(entry.source.tensor.dtype),
                retain_graph=True, is_grads_batched=True,
            )  # fmt: skip
        total = gradients if total is None else total + gradients
    if total is None:
        raise ValueError("no use of the parameter")
    return row_squares(total)


def _norm_dtype(parameters: Mapping[str, Tensor]) -> torch.dtype:
    double = any(parameter.dtype == torch.float64 for parameter in parameters.values())
    return torch.float64 if double else torch.float32
