"""Which batches went into which optimizer step, told from the order of events.

A program is handed batches (deliveries), takes gradients (uses) and steps. Mostly one batch comes
before each backward. Prefetchers are a batch or more ahead; trainers fetch all batches of an
accumulated step before its first backward; some loops join batches before one backward, others leave
batches out. Each is told by counts that the others cannot give.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
_MOST_AHEAD = 64
"""Batches that a prefetcher may hold when the program ends; more are batches left out."""


class Pattern(Enum):
    """How deliveries and uses go together."""

    DIRECT = "each backward uses the batch handed over last"
    IN_TURN = "batches are fetched ahead and used in their order"
    JOINED = "batches are joined before each backward"
    LEFT_OUT = "batches are handed over and not used"


@dataclass(frozen=True, slots=True, eq=False)
class Attribution:
    """For each use, the half-open range of batches that it used."""

    first: IntArray
    last: IntArray
    pattern: Pattern
    left_out: int
    """Batches of the passes in use, handed over before the last use, that nothing used."""


def attribute(uses: npt.ArrayLike, pass_of: npt.ArrayLike, sizes: npt.ArrayLike) -> Attribution:
    """Tell which batches each backward used.

    Args:
      uses: batches delivered before each use, rising, at least 1; shape (uses,).
      pass_of: pass over the loader that each batch came from, rising; shape (batches,).
      sizes: records of each batch, shape (batches,).

    Returns:
      Ranges of batch numbers. Empty batches that no backward followed do not count as left out of
      anything: they hold no record. A batch used by several backward calls is in all their ranges.
    """
    reached: IntArray = np.asarray(uses, np.int64)
    passes = np.asarray(pass_of, np.int64)
    # Passes that no backward followed (validation, a look at the first batch) play no part.
    in_use = np.isin(passes, passes[reached - 1])
    batches = np.flatnonzero(in_use)
    position: IntArray = np.cumsum(in_use, dtype=np.int64)[reached - 1]  # batches in use, at each use
    fresh = np.diff(position, prepend=0)
    if fresh.max(initial=0) <= 1:
        return _ranges(batches, position - 1, position, Pattern.DIRECT)
    turns = _in_turn(position, passes[batches], passes[reached - 1])
    if turns is not None:
        return _ranges(batches, turns, turns + 1, Pattern.IN_TURN)
    # A batch stays in the running if it holds records or is the last before its backward.
    kept = np.asarray(sizes, np.int64)[batches] > 0
    kept[position - 1] = True
    slot: IntArray = np.cumsum(kept, dtype=np.int64)[position - 1]
    fresh = np.diff(slot, prepend=0)
    batches = batches[kept]
    joined = np.unique(fresh[fresh > 0])
    if len(joined) == 1 and joined[0] > 1:
        first = slot - np.maximum.accumulate(np.where(fresh > 0, joined[0], 0))
        return _ranges(batches, first, slot, Pattern.JOINED)
    pattern = Pattern.LEFT_OUT if fresh.max() > 1 else Pattern.DIRECT
    return _ranges(batches, slot - 1, slot, pattern)


def _in_turn(position: IntArray, passes: IntArray, pass_of_use: IntArray) -> IntArray | None:
    """Give each use its batch if all batches were used in order, each equally often; else None.

    Holds when in every ended pass the uses are a fixed multiple of the batches, the last pass is ahead
    by what a prefetcher may hold, and no batch is used before it came.
    """
    numbers, delivered = np.unique(passes, return_counts=True)
    used = np.bincount(np.searchsorted(numbers, pass_of_use), minlength=len(numbers))
    if len(numbers) > 1:
        each = used[0] // delivered[0]
        if each < 1 or (used[:-1] != each * delivered[:-1]).any():
            return None
    else:
        each = max(1, round(used[0] / delivered[0]))
    ahead = delivered[-1] - used[-1] / each
    starts = np.cumsum(delivered) - delivered
    begin_of_use = np.cumsum(used) - used
    place = np.searchsorted(numbers, pass_of_use)
    turn: IntArray = starts[place] + (np.arange(len(position)) - begin_of_use[place]) // each
    late = bool((turn >= position).any())
    steady = len(numbers) > 1 or _steady(position, each)
    return turn if 0 <= ahead <= _MOST_AHEAD and steady and not late else None


def _steady(position: IntArray, each: int) -> bool:
    """Tell whether the lead over the uses, in a pass seen alone, never grows beyond that of its start.

    A loop that leaves batches out gets further and further away from its uses.
    """
    lead = position - np.arange(len(position)) // each - 1
    head = max(1, len(lead) // 10)
    return bool(lead.max() <= lead[:head].max() and lead.min() >= 0)


def _ranges(batches: IntArray, first: IntArray, last: IntArray, pattern: Pattern) -> Attribution:
    if len(first) == 0:
        return Attribution(first, last, pattern, 0)
    touched = np.zeros(len(batches) + 1, np.int64)
    np.add.at(touched, first, 1)
    np.add.at(touched, last, -1)
    unused = np.cumsum(touched)[: int(last.max())] == 0
    if pattern is Pattern.JOINED:
        return Attribution(batches[first], batches[last - 1] + 1, pattern, int(unused.sum()))
    return Attribution(batches[first], batches[first] + 1, pattern, int(unused.sum()))
