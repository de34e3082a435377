"""Read a recording of a program from its directory: at its end, or what a killed one has left."""

from __future__ import annotations

import json
import tempfile
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import TraceError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.records import RecordNumbers
from dpaudit.instrument.script.feed import Feed, StepLog
from dpaudit.instrument.script.feed_log import Event, FeedLog, event_of
from dpaudit.instrument.script.shelf import Shelf
from dpaudit.instrument.script.spool import FEED, FEED_FORM, NUMBERING, SUBSET_FORM, SUBSETS
from dpaudit.instrument.script.step_names import LATE
from dpaudit.instrument.script.tf_datasets import LOADERS
from dpaudit.instrument.script.traces import read_traces
from dpaudit.trace import SamplingTrace
from dpaudit.trace_file import PROGRAM, TraceReader

_LATE_HINT = (
    "Whether they can be followed is judged at the end: let the program run to it, stop it with "
    "--steps, or mark its steps by dpaudit.step()."
)
_SKIPPED = (
    "A gradient scaler skipped steps of this program, which who sees the updates sees: whether its claim "
    "holds is judged at its end."
)
_HINT = "Such a directory is written by dpaudit sampler --script train.py --stream DIR."


class _StoredLog(FeedLog):
    """The batches of a feed, mapped."""

    def __init__(self, indices: npt.NDArray[np.integer[Any]], sizes: npt.NDArray[np.int64]) -> None:
        super().__init__()
        self.sizes = _array(sizes)
        self._indices = indices

    def indices(self) -> npt.NDArray[np.integer[Any]]:
        """Give all batches in one array, shape (draws,)."""
        return self._indices


class _StoredFeed(Feed):
    """A feed made again: its data set is gone, and how its rows are numbered was kept."""

    def __init__(
        self, method: Method, facts: LoaderFacts, log: FeedLog, inside: RecordNumbers | None
    ) -> None:
        super().__init__(None, method, facts, log)
        self._inside = inside

    def numbering(self) -> RecordNumbers:
        """Tell which record each row of the innermost data set is."""
        if self._inside is None:
            raise TraceError("the recording does not say how records are numbered", _HINT)
        return self._inside


def is_recording(path: Path) -> bool:
    """Tell the directory of a program that was not recorded to its end."""
    return (path / PROGRAM).is_file()


def read_feeds(path: Path) -> dict[int, Feed]:
    """Read all feeds that were handed a batch, by their numbers in the order in which they began.

    Raises:
      TraceError: a file is missing or damaged beyond its last chunk.
    """
    numbers = sorted(int(one.name.removeprefix("feed-")) for one in path.glob("feed-*"))
    feeds = {number: _read_feed(path / f"feed-{number}") for number in numbers}
    return {number: feed for number, feed in feeds.items() if feed is not None}


def recovered(path: Path) -> SamplingTrace:
    """Give the trace of a program that was killed, from its whole chunks, with remarks on how it was had.

    Of several loaders and optimizers that of the one with most batches, as at the end of a program.

    Raises:
      TraceError: nothing was recorded that could be audited.
    """
    with tempfile.TemporaryDirectory(prefix="dpaudit-") as place:  # mapped files outlive their names
        traces, problems = read_traces(list(read_feeds(path).values()), None, shelf=Shelf(Path(place)))
        if not traces:
            told = f": {' '.join(problems)}" if problems else ""
            raise TraceError(f"the recording {path} holds no step of an optimizer yet{told}", _HINT)
        main = traces[0]
        if main.optimizer in LATE:
            raise TraceError(f"the recording {path} of steps that JAX compiled has no end", _LATE_HINT)
        if main.recording.facts.loader in LOADERS:
            raise TraceError(f"the recording {path} of batches of TensorFlow has no end", _LATE_HINT)
        trace = main.recording.trace
    remarks = (
        "The recording of this program has not ended, or was killed: what its whole chunks hold was used.",
        f"Batches were followed up to the steps of {main.optimizer}.",
        *problems,
        *main.recording.notes,
    )
    return SamplingTrace(
        indices=trace.indices,
        offsets=trace.offsets,
        num_records=trace.num_records,
        epoch_starts=trace.epoch_starts,
        numbered_by_appearance=trace.numbered_by_appearance,
        remarks=remarks,
        withheld=_SKIPPED if main.skipped else "",
    )


def _read_feed(path: Path) -> Feed | None:
    if not (path / "batches").is_dir() or not (path / FEED).exists():
        return None  # killed while it was made
    try:
        told = json.loads((path / FEED).read_text(encoding="utf-8"))
        method, facts = Method(told["method"]), LoaderFacts(**told["facts"])
        inside = _numbering(path / NUMBERING)
        optimizers = {int(key): (str(name), int(number)) for key, name, number in told["optimizers"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"cannot read the recording {path}: {error}", _HINT) from error
    reader = TraceReader(path / "batches", FEED_FORM)
    marks = np.concatenate([np.zeros((0, 2), np.int64), *(chunk.marks for chunk in reader.chunks())])
    indices, sizes = reader.mapped()
    feed = _StoredFeed(method, facts, _StoredLog(indices, sizes), inside)
    feed.unreadable = str(told["unreadable"])
    subsets = _subsets(path / SUBSETS)
    _replay(feed, marks[marks[:, 0] <= reader.steps], reader.steps, optimizers, subsets)
    return feed


def _replay(
    feed: Feed,
    marks: npt.NDArray[np.int64],
    batches: int,
    optimizers: dict[int, tuple[str, int]],
    subsets: list[npt.NDArray[np.int64]],
) -> None:
    """Let a feed go through what happened to it, without its batches."""
    event, number = event_of(marks[:, 1])
    position = marks[:, 0]
    uses_before = np.cumsum(event == Event.USED)
    for begun, subset in enumerate(number[event == Event.STARTED].tolist()):
        feed.subsets[begun] = subsets[subset - 1] if subset else None
    feed.uses = _array(position[event == Event.USED])
    for key, (name, first) in optimizers.items():
        stepped, skipped = ((event == one) & (number == key) for one in (Event.STEPPED, Event.SKIPPED))
        log = feed.steps[key] = StepLog(name, first)
        log.uses, log.reached = _array(uses_before[stepped]), _array(position[stepped])
        made = np.cumsum(stepped)
        log.skips = list(zip(*(of[skipped].tolist() for of in (made, uses_before, position)), strict=True))
    feed.uncertain = int((event == Event.UNCERTAIN).sum())
    feed.replaced = int((event == Event.REPLACED).sum())
    turned = event == Event.TURNED
    lasting = np.diff(np.append(position[turned], batches))
    feed.pass_of = _array(np.repeat(number[turned], lasting))


def _array(values: npt.NDArray[np.int64]) -> array[int]:
    return array("q", values.astype("q").tobytes())


def _numbering(path: Path) -> RecordNumbers | None:
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        return RecordNumbers(int(file["num_records"]), file.get("numbers"), file.get("origins"))


def _subsets(path: Path) -> list[npt.NDArray[np.int64]]:
    if not path.exists():
        return []
    reader = TraceReader(path, SUBSET_FORM)
    return [
        np.asarray(part, np.int64)
        for chunk in reader.chunks()
        for part in np.split(chunk.indices, np.cumsum(chunk.sizes)[:-1])
    ]
