"""What a route costs: by a model, and by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dpaudit.dpsgd.clipping.books import GradientBook
from dpaudit.dpsgd.clipping.routes import LayerBook, Route

# Rates of one core of a current server (float32 matrix products, main memory). They only order routes whose
# cost is too small to be worth a measurement, or where a measurement is not wanted.
_MULTIPLICATIONS_PER_SECOND = 5e10
_BYTES_PER_SECOND = 1e10


def modelled_seconds(route: Route, shape: torch.Size, positions: int, batch: int) -> float:
    """Seconds of norms and sum of one record of a layer, as far as arithmetic and memory tell.

    Args:
      route: the route; its `multiplications` are those of the norms of the whole batch.
      shape: of the weight.
      positions: products that add up in one record's gradient.
      batch: number of records.
    """
    norms = route.multiplications / batch
    if route.instantiates:  # written, read for the norm, read for the sum
        traffic = 3 * shape.numel() * 4 / _BYTES_PER_SECOND
        return norms / _MULTIPLICATIONS_PER_SECOND + traffic
    final = positions * shape.numel()
    return (norms + final) / _MULTIPLICATIONS_PER_SECOND


def measured_seconds(route: Route, book: LayerBook) -> float:
    """Time of the norms and the sum by this route."""
    return best_seconds(lambda: _run(route, book), on_device=book.inputs.is_cuda)


def best_seconds(action: Callable[[], object], on_device: bool = False) -> float:
    """Best of three, after one run that nobody times.

    The first run compiles kernels, and has the allocator find its pages.
    """
    best = float("inf")
    # A thread's own time is not disturbed by what else runs; it misses the work of other threads and devices.
    alone = torch.get_num_threads() == 1 and not on_device
    clock = time.thread_time if alone else time.perf_counter
    action()
    for _ in range(3):
        start = clock()
        action()
        best = min(best, clock() - start)
        if best > 0.2:  # seconds: slow enough to be told from others at once
            break
    return best


def _run(route: Route, book: LayerBook) -> None:
    result = route.run()
    factors = result.new_ones(len(result))
    if route.instantiates:
        kept = GradientBook(result)
        kept.squared_norms()
        kept.weighted_sum(factors)
    else:
        book.weighted_sum(factors)
    if book.inputs.is_cuda:
        torch.cuda.synchronize(book.inputs.device)
