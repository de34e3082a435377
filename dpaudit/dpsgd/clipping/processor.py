"""When compiled kernels of our own run on a processor, and on how many threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

# Below this many numbers per thread, starting threads (about 0.1 ms) costs more than they save.
_WORTH_A_THREAD = 2**18


def suits_kernels(*tensors: Tensor) -> bool:
    """Whether kernels may run: tensors that suit them, while no operations are recorded.

    A kernel leaves no trace in a record.
    """
    return not recording() and known_to_kernels(*tensors)


def recording() -> bool:
    """Whether operations are being recorded, for a graph."""
    return bool(torch._C._len_torch_dispatch_stack())


def known_to_kernels(*tensors: Tensor) -> bool:
    """Whether tensors are in main memory and of one dtype that the kernels know."""
    dtype = tensors[0].dtype
    return dtype in (torch.float32, torch.float64) and all(
        tensor.device.type == "cpu" and tensor.dtype == dtype for tensor in tensors
    )


def each_thread(
    kernel: Callable[..., Any], batch: int, split: Sequence[Tensor], shared: Sequence[Tensor] = ()
) -> None:
    """Run a kernel on contiguous tensors, in parts on torch's number of threads.

    Args:
      kernel: takes arrays, those of `split` first; releases the interpreter.
      batch: number of records.
      split: tensors whose first dimension is `batch`, or holds several rows of each record, consecutive.
      shared: tensors that every part gets whole.
    """
    numbers = sum(tensor.numel() for tensor in split)
    threads = min(torch.get_num_threads(), batch, 1 + numbers // _WORTH_A_THREAD)
    arrays = [tensor.detach().numpy() for tensor in split]
    whole = [tensor.detach().numpy() for tensor in shared]
    if threads == 1:
        kernel(*arrays, *whole)
        return
    bounds = [batch * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:  # of its own, as threads do not survive a fork
        parts = [
            pool.submit(kernel, *(_part(array, batch, start, stop) for array in arrays), *whole)
            for start, stop in pairwise(bounds)
        ]
        for part in parts:
            part.result()


def _part(array: npt.NDArray[Any], batch: int, start: int, stop: int) -> npt.NDArray[Any]:
    each = len(array) // batch
    return array[start * each : stop * each]
