"""Test a program step by step: each step is put together as the audit would, had the program ended there.

Mostly every backward uses the batch handed over last; then a step is known when the optimizer makes it.
Where batches are fetched ahead, joined or left out, `attribution` looks at all counts again now and then.
If it then reads an earlier step in another way, the test begins anew with the steps as they are read now.
What was tested is compared with the trace in the end, and only counts if the trace begins with it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError
from dpaudit.instrument.methods import Method
from dpaudit.instrument.records import RecordNumbers
from dpaudit.instrument.script.attribution import attribute
from dpaudit.instrument.script.feed import Feed
from dpaudit.instrument.script.live_test import Examiner, StepTest
from dpaudit.instrument.script.step_names import BY_HAND, LATE
from dpaudit.instrument.script.traces import (
    fed_steps,
    numbers_of_steps,
    records_of,
    refuse_kept_batches,
    rows_of,
)
from dpaudit.trace import SamplingTrace

_FIRST_LOOK = 8
"""Steps before which too little is known of how batches and steps go together."""
_GROWTH = 8
"""Where steps cannot be told as they come, all is looked at again when an eighth has been added."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveResult:
    """What was tested while the program ran, and whether the trace begins with it."""

    test: StepTest
    steps: int
    agrees: bool


class LiveSteps:
    """Follows the steps of the training that would be audited if the program ended now.

    Args:
      examiner: makes the tests.
      stated: N as the user gives it.
    """

    def __init__(self, examiner: Examiner, stated: int | None) -> None:
        self._examiner = examiner
        self._stated = stated
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._uses: dict[int, _DirectUses] = defaultdict(_DirectUses)
        self.failure = ""

    def stepped(self, feeds: list[Feed], key: int, optimizer: str) -> bool:
        """Learn that an optimizer has stepped; tell whether to end the program."""
        if self.failure:
            return False
        if optimizer in LATE:
            self._examiner.cannot("what steps that JAX compiled hold is judged at their end")
            return False
        try:
            stops = [self._stepped(feed, key, optimizer == BY_HAND) for feed in feeds if key in feed.steps]
            return any(stops)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            self._examiner.cannot(f"the test failed ({self.failure}); the recording goes on")
            return False

    def _stepped(self, feed: Feed, key: int, by_hand: bool) -> bool:
        place = (id(feed), key)
        if place not in self._pairs:
            self._pairs[place] = _Pair(feed, key, by_hand, self._stated)
        pair = self._pairs[place]
        uses = self._uses[id(feed)]
        uses.advance(feed)
        pair.count()
        if max(self._pairs.values(), key=_Pair.weight) is not pair or pair.rows_seen < _FIRST_LOOK:
            pair.missed()
            return False
        if feed.method is Method.FINGERPRINT:
            self._examiner.cannot("records of this loader are told by their content")
            return False
        if not pair.take(self._examiner, uses):
            return False
        assert pair.test is not None
        self._examiner.stepped(pair.test)
        return pair.test.refuted and self._examiner.stop

    def result(self, number: int, trace: SamplingTrace) -> LiveResult | None:
        """Compare what was tested with the trace of the optimizer of that number."""
        tested = [pair for pair in self._pairs.values() if pair.key == number and pair.test is not None]
        if not tested:
            return None
        agreeing = [pair for pair in tested if pair.begins(trace)]
        pair = (agreeing or tested)[0]
        assert pair.test is not None
        return LiveResult(pair.test, pair.fed, bool(agreeing))


class _DirectUses:
    """Tells, use by use, whether each used the batch handed over last; `attribute` says the same of all."""

    def __init__(self) -> None:
        self.holds = True
        self._uses = self._batches = self._fresh = 0
        self._in_use: set[int] = set()
        self._before: dict[int, int] = defaultdict(int)

    def advance(self, feed: Feed) -> None:
        """Take the uses that came since the last time."""
        for use in range(self._uses, len(feed.uses)):
            reached = feed.uses[use]
            for batch in range(self._batches, reached):
                source = feed.pass_of[batch]
                if source in self._in_use:
                    self._fresh += 1
                else:
                    self._before[source] += 1
            self._batches = max(self._batches, reached)
            source = feed.pass_of[reached - 1]
            if source not in self._in_use:
                self._in_use.add(source)
                self._fresh += self._before.pop(source)
            self.holds &= self._fresh <= 1
            self._fresh = 0
        self._uses = len(feed.uses)


class _Pair:
    """The batches of one feed, and one optimizer."""

    def __init__(self, feed: Feed, key: int, by_hand: bool, stated: int | None) -> None:
        self.feed, self.key, self.by_hand, self._stated = feed, key, by_hand, stated
        self.test: StepTest | None = None
        self.fed = 0
        """Steps that the test has taken."""
        self.rows_seen = 0
        self._batches = self._counted = self._latest = 0
        self._in_step = False
        """Whether the test has taken all steps but the last one."""
        self._records: RecordNumbers | None = None
        self._num_records: int | None = None
        self._subset: npt.NDArray[np.int64] | None = None
        self._any_subset = False
        """Whether no further pass can change which records there are."""
        self._next_look, self._pass, self._last = _FIRST_LOOK, -1, -1
        self._numbers = hashlib.blake2b(digest_size=16)
        self._content = hashlib.blake2b(digest_size=16)

    def weight(self) -> tuple[bool, bool, int, int]:
        """Give what decides which training is audited."""
        return self.by_hand, self.feed.stated, self._batches, -self.key

    def count(self) -> None:
        """Count the step that has just been made, and the batches that are new in it."""
        log = self.feed.steps.get(self.key)
        if log is None or not log.uses:
            return
        if not self.rows_seen and (begin := int(self.feed.begins(log)[0][0])):
            self._counted, self._latest = begin, self.feed.uses[begin - 1]
        self.rows_seen = len(log.uses)
        for use in range(self._counted, log.uses[-1]):
            reached = self.feed.uses[use]
            self._batches += reached > self._latest
            self._latest = max(self._latest, reached)
        self._counted = log.uses[-1]

    def missed(self) -> None:
        """Know that the test has not taken the step that has just been made."""
        self._in_step = False

    def take(self, examiner: Examiner, uses: _DirectUses) -> bool:
        """Let the test take what is known of the steps so far; tell whether it took any."""
        if self.test is not None and self._in_step and uses.holds:
            numbers = self._latest_step()
            if numbers is None:
                return False
            # A batch that is used again may be one that the program keeps, and cuts its own batches from.
            uses.holds = numbers[0] != self._last
            records = self.feed.log.recent(numbers)
            if uses.holds and records is not None and self._same_subset(numbers):
                self._feed(numbers, records)
                return True
            self._in_step = False
        elif self.test is None and not examiner.may_begin(self.feed.facts):
            return False
        if not uses.holds and self.rows_seen < self._next_look:
            return False
        self._next_look = self.rows_seen + max(_FIRST_LOOK, self.rows_seen // _GROWTH)
        with contextlib.suppress(DpauditError):  # which of its records each step used cannot be told, so far
            return self._look_again(examiner)
        return False

    def begins(self, trace: SamplingTrace) -> bool:
        """Tell whether a trace begins with the steps that were tested."""
        if trace.steps < self.fed or self._num_records not in (None, trace.num_records):
            return False
        content = hashlib.blake2b(digest_size=16)
        for step in range(self.fed):
            _add(content, trace.batch(step))
        return content.digest() == self._content.digest()

    def _latest_step(self) -> list[int] | None:
        """Give the batches of the step that has just been made, each use having the one before it."""
        log, feed = self.feed.steps[self.key], self.feed
        begin = log.uses[-2] if len(log.uses) > 1 else 0
        before = log.reached[-2] if len(log.reached) > 1 else 0
        if log.skips and log.skips[-1][0] == len(log.uses) - 1:
            _, begin, before = log.skips[-1]
        if log.uses[-1] > begin:
            return list(dict.fromkeys(feed.uses[use] - 1 for use in range(begin, log.uses[-1])))
        reached = log.reached[-1]
        return [reached - 1] if reached > before and not any(feed.log.sizes[before:reached]) else None

    def _same_subset(self, numbers: list[int]) -> bool:
        if self._any_subset:
            return True
        for number in {self.feed.pass_of[batch] for batch in numbers}:
            rows = self.feed.subsets[number]
            if rows is not self._subset and not (
                rows is not None and self._subset is not None and np.array_equal(rows, self._subset)
            ):
                return False
        return True

    def _look_again(self, examiner: Examiner) -> bool:
        """Put all steps together anew, and feed those that the test does not know."""
        feed, log = self.feed, self.feed.steps[self.key]
        sizes = np.array(feed.log.sizes, np.int64)
        # Copies: a prefetcher's thread may add to the counts meanwhile.
        delivered = min(len(sizes), feed.delivered)
        told = attribute(np.array(feed.uses, np.int64), np.array(feed.pass_of[:delivered]), sizes[:delivered])
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        fed = fed_steps(feed, told, log, offsets)
        if not np.diff(offsets)[fed.batches].any():
            return False
        refuse_kept_batches(feed, told, len(fed.steps))
        records = rows_of(feed, fed.passes)
        known = self._stated or (feed.facts.num_records if records is None else records.num_records)
        check = hashlib.blake2b(digest_size=16)
        for place, numbers in enumerate(numbers_of_steps(told, fed)):
            if place == self.fed:
                break
            _add(check, np.array(numbers))
        same = self.test is not None and known == self._num_records and _same_rows(records, self._records)
        if not same or check.digest() != self._numbers.digest():
            if self.test is not None and self.test.refuted:
                examiner.withdrawn()
            self.test = examiner.begin(known, feed.facts)
            if self.test is None:
                return False
            self.fed, self._pass, self._last = 0, -1, -1
            self._numbers, self._content = (hashlib.blake2b(digest_size=16) for _ in range(2))
        self._records, self._num_records = records, known
        self._subset = feed.subsets[int(fed.passes[0])]
        whole = records is None or feed.numbering().num_records == records.num_records
        self._any_subset = self._subset is None or whole
        indices = feed.log.indices()
        for numbers in numbers_of_steps(told, fed, self.fed):
            self._feed(numbers, records_of(numbers, indices, offsets))
        self._in_step = True
        return True

    def _feed(self, numbers: list[int], rows: npt.NDArray[np.integer[Any]]) -> None:
        assert self.test is not None
        source = self.feed.pass_of[numbers[-1]]
        if source != self._pass:
            self.test.start_pass()
            self._pass = source
        self._last = numbers[-1]
        batch = rows if self._records is None else self._records.of(rows)
        self.test.update(batch)
        self.fed += 1
        _add(self._numbers, np.array(numbers))
        _add(self._content, batch)


def _add(digest: Any, numbers: npt.NDArray[np.integer[Any]]) -> None:
    digest.update(len(numbers).to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(numbers, np.int64).tobytes())


def _same_rows(one: RecordNumbers | None, other: RecordNumbers | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.numbers is None or other.numbers is None:
        return one.numbers is other.numbers and one.num_records == other.num_records
    return np.array_equal(one.numbers, other.numbers)
