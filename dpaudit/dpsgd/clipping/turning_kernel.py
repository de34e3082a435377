"""A copy that the library takes four times as long for."""

from __future__ import annotations

from typing import Any

from numba import njit


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def turn(products: Any, gradient: Any) -> None:
    """Copy (outputs, kernel positions, channels) to (outputs, channels, kernel positions)."""
    for output in range(len(products)):
        for channel in range(products.shape[2]):
            for place in range(products.shape[1]):
                gradient[output, channel, place] = products[output, place, channel]
