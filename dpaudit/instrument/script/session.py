"""What happens while an audited program runs: batches come, gradients are taken, optimizers step.

Everything that is called from inside the program goes through `guarded`: a failure of the recording
ends the recording and never the program, unless the user wants it to (`strict`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dpaudit.instrument.carried import Carried
from dpaudit.instrument.facts import LoaderFacts, loader_facts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script.feed import Feed, Pass
from dpaudit.instrument.script.feed_log import FeedLog
from dpaudit.instrument.script.late_steps import LateSteps
from dpaudit.instrument.script.live_steps import LiveSteps
from dpaudit.instrument.script.object_numbers import ObjectNumbers, first_parameter
from dpaudit.instrument.script.roots import same_object, same_shape, trace_to_root
from dpaudit.instrument.script.taps import Handover, Tap, first_leaf

_T = TypeVar("_T")
_BATCHES_WITHOUT_STEP = 2000
"""Batches after which a program that was to be watched for some steps, and made none, is stopped."""


class Stop(BaseException):
    """Ends the program after the wanted steps; no Exception, so that `except Exception` lets it pass."""


class Session:
    """One audited run of a program."""

    def __init__(
        self,
        *,
        steps: int | None = None,
        strict: bool = False,
        new_log: Callable[[], FeedLog] = FeedLog,
        live: LiveSteps | None = None,
    ) -> None:
        self.feeds: list[Feed] = []
        self.live = live
        self.refuted = False
        """Whether the program was stopped because a test that ran along refuted its claim."""
        self._new_log = new_log
        self.recording = True
        self.failure = ""
        self.stopped = False
        self.in_group = False
        """Whether the program joined a process group of torch."""
        self.rank, self.world = 0, 1
        """Its number there, and how many joined."""
        self.announce: Callable[[int, int], None] = lambda rank, world: None
        self.data_parallel = False
        """Whether it wrapped a model to average gradients over ranks."""
        self.seen: dict[str, int] = {}
        """Loaders that cannot be followed: why -> batches."""
        self.late = LateSteps()
        """Steps of compiled code."""
        self.unjudgeable = ""
        """Why no verdict can be given."""
        self.unfollowable = ""
        """Why none can be given unless the program states the records of its steps."""
        self.doubt = ""
        """Why it cannot be called consistent."""
        self.backwards = 0
        self._explicit = False
        self.counts: dict[int, int] = {}
        """Steps of each optimizer that used batches of some feed."""
        self.all_steps: dict[int, int] = {}
        self.parameters: dict[int, int] = {}
        """What each optimizer trains, by the number of its first parameter; not known of all."""
        self.latest: Pass | None = None
        self._trained = ObjectNumbers()
        self._optimizers = ObjectNumbers()
        self._limit = steps
        self.strict = strict
        self._batches = 0
        self._used_at: dict[int, int] = {}
        self._local = threading.local()

    def guarded(self, action: Callable[[], _T]) -> _T | None:
        """Do something for the recording; a failure ends the recording, not the program."""
        if not self.recording:
            return None
        try:
            return action()
        except Exception as error:
            self.recording = False
            self.failure = f"{type(error).__name__}: {error}"
            if self.strict:
                raise Stop from error
            text = "dpaudit: the recording failed and ends here, the program goes on"
            print(f"{text}: {self.failure}", file=sys.stderr)
            return None

    # Batches

    def open_tap(self, loader: Any, method: Method) -> Tap:
        """Prepare to follow one pass of a loader."""
        root, rows = trace_to_root(loader.dataset)
        return Tap(self.feed_of(root, method, loader_facts(loader)), rows)

    def feed_of(self, root: Any, method: Method, facts: LoaderFacts) -> Feed:
        """Give the feed of a data set, made anew where it is the first batch of it."""
        feed = self._known_feed(root, method)
        if feed is None:
            feed = self.new_feed(root, method, facts)
        feed.know(facts)
        return feed

    def new_feed(self, dataset: Any, method: Method, facts: LoaderFacts) -> Feed:
        """Begin to follow the batches of another data set."""
        feed = Feed(dataset, method, facts, self._new_log())
        self.feeds.append(feed)
        return feed

    def open_tap_by_content(self, root: Any, facts: LoaderFacts) -> Tap:
        """Prepare to follow one pass of a pipeline whose records are told by their content.

        Args:
          root: what the records come from.
          facts: of the pipeline. Passes of another size or batch size have a feed of their own; one of the
            same known size may go over a root that was made anew, for the content tells the records.
        """
        for feed in self.feeds:
            over = facts.num_records is not None and (feed.current is None or feed.current.ended)
            if feed.method is Method.FINGERPRINT and feed.facts == facts and (feed.dataset is root or over):
                return Tap(feed, None)
        return Tap(self.new_feed(root, Method.FINGERPRINT, facts), None)

    def _known_feed(self, root: Any, method: Method) -> Feed | None:
        for feed in self.feeds:
            if feed.method is method and same_object(feed.dataset, root):
                return feed
        for feed in self.feeds:  # a data set that is made anew for each pass
            over = feed.current is None or feed.current.ended
            if feed.method is method and over and same_shape(feed.dataset, root):
                feed.replace(root)
                return feed
        return None

    @property
    def handovers(self) -> list[Handover]:
        """Relaying loaders that are fetching at the moment, the outermost first; one list per thread."""
        stack: list[Handover] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack

    def fetched(self, tap: Tap, carried: Carried) -> None:
        """Take what torch's iterator has given: to the program, or to the loader that relays it."""
        stack = self.handovers
        if stack:
            stack[-1].waiting.append((tap, carried))
            return
        if tap.started is None:
            tap.started = tap.feed.start_pass(tap.rows, tap.dropped)
        self._deliver(tap, tap.started, carried)

    def handed_on(self, handover: Handover, batch: Any) -> None:
        """Take what a relaying loader gives: the batch with the same content, else the oldest."""
        waiting = handover.waiting
        if not waiting:
            return
        marks = [first_leaf(carried.payload) is first_leaf(batch) for _, carried in waiting]
        for _ in range(marks.index(True) if True in marks else 0):  # fetched before it and skipped
            waiting.popleft()
        tap, carried = waiting.popleft()
        if self.handovers:
            self.handovers[-1].waiting.append((tap, carried))
            return
        if handover.started is None:
            handover.started = tap.feed.start_pass(tap.rows)
        self._deliver(tap, handover.started, carried)

    def settle(self) -> None:
        """Take in the steps that compiled code has made by now."""
        self.late.take_in(self)

    def _deliver(self, tap: Tap, source: Pass, carried: Carried) -> None:
        self.settle()
        tap.feed.deliver(source, carried.indices, carried.certain)
        self.latest = source
        self._count_batch()

    def unfollowed(self, why: str) -> None:
        """Note a batch of a loader that cannot be followed."""
        self.seen[why] = self.seen.get(why, 0) + 1
        self._count_batch()

    def _count_batch(self) -> None:
        self._batches += 1
        if self._limit and not self.all_steps and self._batches >= max(_BATCHES_WITHOUT_STEP, self._limit):
            self.stopped = True
            raise Stop

    @property
    def most_steps(self) -> int:
        """Steps of the busiest optimizer so far."""
        self.settle()
        return max(self.all_steps.values(), default=0)

    @property
    def batches(self) -> int:
        """Batches handed to the program so far, by loaders of every kind."""
        return self._batches

    @property
    def passes(self) -> int:
        """Passes over batches that have begun so far."""
        return sum(len(feed.passes) for feed in self.feeds)

    def ended(self, tap: Tap) -> None:
        """Note that torch's iterator has no more batches, or starts anew."""
        self.settle()
        if tap.started is not None:
            tap.started.finished = True
            tap.started = None

    # Gradients and steps

    def backward(self) -> None:
        """Note that gradients were taken: every live pass has its latest batch, or more, in them."""
        self._explicit = True
        self.use()

    def used(self, feeds: Iterable[Feed]) -> None:
        """Note that gradients were taken of the latest batches of these feeds."""
        self._explicit = True
        self.backwards += 1
        for feed in feeds:
            feed.use()

    def use(self) -> None:
        """Note that batches were used, by whatever means."""
        self.backwards += 1
        for feed in self.feeds:
            current = feed.current
            if current is None or not current.delivered or feed.stated:
                continue
            # A prefetcher reaches the end of its pass before the last batches are used, and the iterator
            # of `next(iter(loader))` is gone at once. Batches that were all fetched and kept stay out.
            latest = current is self.latest and (current.uses > 0 or current.delivered == 1)
            if latest or not current.ended:
                feed.use()

    def stepped(self, optimizer: Any, name: str = "") -> None:
        """Note a step of an optimizer.

        Raises:
          Stop: it was the last of the wanted steps, or is the one that refutes the claim.
        """
        key = self._optimizers.number(optimizer)
        if not self._explicit and self.backwards == self._used_at.get(key, 0):
            self.use()  # gradients by other means: torch.func, by hand
        self._used_at[key] = self.backwards
        label = name or type(optimizer).__name__
        number = self.all_steps.get(key, 0)
        if not number and (trained := first_parameter(optimizer)) is not None:
            self.parameters[key] = self._trained.number(trained)
        fed = [feed.step(key, label, number) for feed in self.feeds if feed.delivered]
        self.all_steps[key] = number + 1
        if any(fed):
            self.counts[key] = self.counts.get(key, 0) + 1
        if self.live is not None and self.live.stepped(self.feeds, key, label):
            self.stopped = self.refuted = True
            raise Stop
        if self._limit is None:
            return
        fed_enough = self.counts.get(key, 0) >= self._limit
        barren = not self.counts and self.all_steps[key] >= max(_BATCHES_WITHOUT_STEP, self._limit)
        if fed_enough or barren:
            self.stopped = True
            raise Stop

    def skipped(self, optimizer: Any) -> None:
        """Note that a gradient scaler found gradients that are not finite, and did not let an optimizer step.

        A step that is made later has finite gradients: what was used for this one is not in them.
        """
        while hasattr(optimizer, "original_optimizer"):  # Opacus' stands for the one that really steps
            optimizer = optimizer.original_optimizer
        key = self._optimizers.number(optimizer)
        for feed in self.feeds:
            if feed.delivered:
                feed.skip(key, type(optimizer).__name__, self.all_steps.get(key, 0))

    def joined(self, rank: int, world: int) -> None:
        """Note that the program joined a process group of torch."""
        self.in_group, self.rank, self.world = True, rank, world
        self.announce(rank, world)

    def number_of(self, optimizer: Any) -> int | None:
        """Give the number under which an optimizer has stepped; None if it has not."""
        return self._optimizers.known(optimizer)
