"""Gram norms on a processor: half the products, in registers, without a Gram matrix in main memory.

A batched product of small matrices reaches half the speed of a large one, and knows nothing of symmetry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

# Sums may be reordered, as in any matrix product; nan and inf stay what they are.
_FAST = {"reassoc", "contract", "nsz", "arcp"}
# Four rows of this many float32 numbers fit the first-level cache, a few hundred rows the second.
_STRETCH = 1024
# Rows of the Gram matrices held at once: with a thousand positions half a MiB each.
_PANEL = 128
# Gradients of positions may cancel: of terms that add up to reach^2, with reach = sum_t |inputs_t| |grads_t|,
# next to nothing may remain but what they were rounded by, a few units in the last place of reach^2. So many
# units are added: then no norm is too small, and no gradient passes the clip norm. Without cancellation that
# is a share of T times 1e-6 at most in float32.
ROUNDING = 8.0


@njit(cache=True, nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator]
def _add_products(rows: Any, first: int, last: int, panel: Any) -> None:
    """Add rows[i] . rows[j] to panel[i - first, j], for first <= i < last and j up to i or its block of 4."""
    length, width = rows.shape
    whole = first + (last - first) // 4 * 4
    for start in range(0, width, _STRETCH):
        stop = min(start + _STRETCH, width)
        for i in range(first, whole, 4):
            a0, a1 = rows[i, start:stop], rows[i + 1, start:stop]
            a2, a3 = rows[i + 2, start:stop], rows[i + 3, start:stop]
            for j in range(0, min(i + 4, length - length % 4), 4):
                b0, b1 = rows[j, start:stop], rows[j + 1, start:stop]
                b2, b3 = rows[j + 2, start:stop], rows[j + 3, start:stop]
                s00 = s01 = s02 = s03 = rows.dtype.type(0)
                s10 = s11 = s12 = s13 = rows.dtype.type(0)
                s20 = s21 = s22 = s23 = rows.dtype.type(0)
                s30 = s31 = s32 = s33 = rows.dtype.type(0)
                for k in range(stop - start):  # sixteen sums of vectors: each load serves four products
                    s00 += a0[k] * b0[k]
                    s01 += a0[k] * b1[k]
                    s02 += a0[k] * b2[k]
                    s03 += a0[k] * b3[k]
                    s10 += a1[k] * b0[k]
                    s11 += a1[k] * b1[k]
                    s12 += a1[k] * b2[k]
                    s13 += a1[k] * b3[k]
                    s20 += a2[k] * b0[k]
                    s21 += a2[k] * b1[k]
                    s22 += a2[k] * b2[k]
                    s23 += a2[k] * b3[k]
                    s30 += a3[k] * b0[k]
                    s31 += a3[k] * b1[k]
                    s32 += a3[k] * b2[k]
                    s33 += a3[k] * b3[k]
                block = panel[i - first : i - first + 4, j : j + 4]
                block[0, 0] += s00
                block[0, 1] += s01
                block[0, 2] += s02
                block[0, 3] += s03
                block[1, 0] += s10
                block[1, 1] += s11
                block[1, 2] += s12
                block[1, 3] += s13
                block[2, 0] += s20
                block[2, 1] += s21
                block[2, 2] += s22
                block[2, 3] += s23
                block[3, 0] += s30
                block[3, 1] += s31
                block[3, 2] += s32
                block[3, 3] += s33
        for i in range(whole, last):
            for j in range(i + 1):
                total = rows.dtype.type(0)
                for k in range(start, stop):
                    total += rows[i, k] * rows[j, k]
                panel[i - first, j] += total


@njit(cache=True, nogil=True, fastmath=_FAST)  # type: ignore[untyped-decorator]
def gram_norms(inputs: Any, grads: Any, norms: Any) -> None:
    """Set norms[r] to the squared norm of grads[r]^T inputs[r], no smaller for being rounded.

    Args:
      inputs: (batch, T, d), contiguous.
      grads: (batch, T, p), contiguous, of the same dtype.
      norms: (batch,), changed in place.
    """
    batch, length, _ = inputs.shape
    left = np.empty((min(_PANEL, length), length), inputs.dtype)
    right = np.empty_like(left)
    for record in range(batch):
        total, reach = 0.0, 0.0
        for first in range(0, length, _PANEL):
            last = min(first + _PANEL, length)
            left[:] = 0
            right[:] = 0
            _add_products(inputs[record], first, last, left)
            _add_products(grads[record], first, last, right)
            for i in range(first, last):
                a, b = left[i - first], right[i - first]
                below = inputs.dtype.type(0)
                for j in range(i):
                    below += a[j] * b[j]
                total += 2 * below + a[i] * b[i]
                reach += np.sqrt(a[i] * b[i])
        norms[record] = total + ROUNDING * np.finfo(inputs.dtype).eps * reach * reach
