"""From loader to trace: streams of numbers, seeds and runs, step counts, labels, bad input."""

from __future__ import annotations

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

import dpaudit
from dpaudit.audit import live
from dpaudit.errors import DpauditError, TargetError, UserCodeError
from dpaudit.instrument import LoaderFacts, Method, capture, load_target, record, watch
from dpaudit.instrument.step_count import default_steps
from dpaudit.trace import SamplingTrace


def rows(trace: SamplingTrace) -> list[list[int]]:
    return [batch.tolist() for batch in trace.batches()]


def test_public_names() -> None:
    assert dpaudit.record is record
    assert dpaudit.watch is live.watch


@pytest.mark.parametrize(
    "batch",
    [
        [2, 0],
        (2, 0),
        np.array([2, 0]),
        np.array([2, 0], np.uint8),
        torch.tensor([2, 0]),
        range(2, -1, -2),
        {0, 2},
    ],
)
def test_batches_may_be_anything_that_holds_whole_numbers(batch: Any) -> None:
    trace = record([batch, [], [1]], steps=3)
    assert sorted(trace.batch(0).tolist()) == [0, 2]
    assert trace.batch_sizes.tolist() == [2, 0, 1]
    assert trace.indices.dtype == np.int32


@pytest.mark.parametrize(
    "batch",
    [[0.5], ["a"], "ab", [[0, 1]], [(0, 1), (1, 2)], np.zeros((2, 2)), [torch.zeros(3), 1], object(), None],
)
def test_batches_without_record_numbers_are_refused(batch: Any) -> None:
    with pytest.raises(DpauditError, match="no record numbers") as caught:
        record([[0], batch], steps=2)
    assert "step 1" in caught.value.message
    assert "batches(seed, steps)" in caught.value.hint


def test_masks_negative_and_far_numbers_are_refused() -> None:
    with pytest.raises(DpauditError, match="mask") as caught:
        record([np.array([True, False])], steps=1)
    assert "flatnonzero" in caught.value.hint
    with pytest.raises(DpauditError, match="negative record number -1"):
        record([[0, -1]], steps=1)
    with pytest.raises(DpauditError, match=r"step 1 has record number 9, outside 0\.\.4"):
        record([[0], [9]], steps=2, num_records=5)
    with pytest.raises(DpauditError, match="holds a record"):
        record([[], []], steps=4)
    with pytest.raises(DpauditError, match="empty"):
        record([], steps=4)
    with pytest.raises(DpauditError, match="holds a record"):
        record(SamplingTrace.from_batches([[], []], num_records=3))


def test_infinite_streams_are_read_no_further_than_wanted() -> None:
    counter = itertools.count()
    trace = record(([next(counter)] for _ in itertools.count()), steps=7)
    assert rows(trace) == [[i] for i in range(7)]
    assert next(counter) == 7
    assert record(itertools.repeat([0, 1])).steps == 400


def test_passes_without_a_batch_do_not_end_a_recording_at_once() -> None:
    class Skipping:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([[0]] if self.passes % 3 == 0 else [])

    assert record(Skipping(), steps=4).steps == 4


def test_epochs_are_marked_and_one_shot_streams_end() -> None:
    assert record([[0], [1], [2]], steps=7).epoch_starts.tolist() == [0, 3, 6]
    assert record(iter([[0], [1], [2]]), steps=7).steps == 3
    seen: list[tuple[int, int]] = []
    record([[0], [1]], steps=3, progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_samplers() -> None:
    data = range(10)
    with pytest.raises(TargetError, match="single record numbers"):
        record(RandomSampler(data))
    trace = record(RandomSampler(data), steps=6, batch_size=4)
    assert trace.batch_sizes.tolist() == [4, 4, 2, 4, 4, 2]
    assert trace.num_records == 10
    facts = capture(RandomSampler(data), steps=6, batch_size=4).facts
    assert (facts.sampling_rate, facts.steps_per_epoch) == (0.4, 3)
    assert record(BatchSampler(RandomSampler(data), 3, drop_last=True), steps=4).epoch_starts.tolist() == [
        0,
        3,
    ]
    recording = capture(SubsetRandomSampler([1, 5]), steps=1, batch_size=2)
    assert recording.trace.num_records == 6
    assert any("was assumed" in note for note in recording.notes)
    assert capture(SubsetRandomSampler([1, 5]), steps=1, batch_size=2, num_records=9).trace.num_records == 9


def test_batches_function_gets_seed_and_steps() -> None:
    calls = []

    def batches(seed: int, steps: int):
        calls.append((seed, steps))
        rng = np.random.default_rng(seed)
        return (np.flatnonzero(rng.random(50) < 0.2) for _ in range(steps))

    trace = record(batches, steps=5, seed=3, runs=2, num_records=50)
    assert calls == [(3, 5), (4, 5)]
    assert trace.run_starts.tolist() == [0, 5]
    first, second = trace.runs()
    assert rows(first) != rows(second)
    assert rows(record(batches, steps=5, seed=3, num_records=50)) == rows(first)
    recording = capture(batches, steps=5)
    assert recording.seed == calls[-1][0]  # drawn, and said


def test_runs_show_a_seed_fixed_in_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    setup = "import torch\nfrom torch.utils.data import DataLoader, TensorDataset\n{}\n"
    loader = "train_loader = DataLoader(TensorDataset(torch.arange(40)), batch_size=8, shuffle=True)\n"
    for first_line, equal in (("torch.manual_seed(0)", True), ("", False)):
        (tmp_path / "mine.py").write_text(setup.format(first_line) + loader)
        state = torch.get_rng_state()
        target = load_target(str(tmp_path / "mine.py"), seed=5)
        recording = capture(target, steps=9, runs=3, seed=5)
        first, *others = map(rows, recording.trace.runs())
        assert [other == first for other in others] == [equal, equal]
        assert recording.seed == 5
        again = capture(load_target(str(tmp_path / "mine.py"), seed=5), steps=9, seed=5)
        assert rows(again.trace) == first
        torch.set_rng_state(state)


def test_one_object_over_several_runs_is_noted() -> None:
    notes = " ".join(capture([[0], [1]], steps=2, runs=2, seed=1).notes)
    assert "one and the same loader object" in notes
    assert "same loader object" not in " ".join(capture(lambda: [[0], [1]], steps=2, runs=2).notes)


def test_printing_loaders_do_not_mix_with_a_report(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "loud.py").write_text("def loader():\n    print('batch')\n    yield [0]\n")
    record(load_target(str(tmp_path / "loud.py")), steps=1)
    assert capsys.readouterr().out == ""


def test_factories_are_called_for_each_run_and_seeds_are_undone() -> None:
    made = []

    def make() -> list[list[int]]:
        made.append(random.random())
        return [[0, 1]]

    states = random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002
    record(make, steps=2, runs=3, seed=8)
    record(make, steps=2, seed=8)
    assert len(made) == 4
    assert made[0] == made[3]
    assert len(set(made)) == 3
    assert (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()) == states  # noqa: NPY002
    with pytest.raises(TargetError, match="needs arguments: size"):
        record(lambda size: [[size]], steps=1)
    with pytest.raises(DpauditError, match="gave nothing in run 2"):
        record(iter([[0]]), steps=1, runs=2, seed=0)


def test_user_exceptions_name_the_step() -> None:
    def broken():
        yield [0]
        raise OSError("disk is gone")

    with pytest.raises(
        UserCodeError, match="cannot read batch 1 of the loader: OSError: disk is gone"
    ) as caught:
        record(broken, steps=3)
    assert "in broken" in caught.value.user_traceback
    with pytest.raises(UserCodeError, match="make the loader"):
        record(lambda: 1 / 0)
    for nothing in (3, "abc", {"a": 1}, np.arange(3), torch.arange(3), TensorDataset(torch.arange(3))):
        with pytest.raises(TargetError, match="is not a loader"):
            record(nothing)
    with pytest.raises(ValueError, match="steps >= 1, got 0"):
        record([[0]], steps=0)


def test_watching_a_stream() -> None:
    watched = watch([[0, 1], [2]], num_records=4)
    with pytest.raises(DpauditError, match="has not been iterated"):
        watched.trace()
    assert len(watched) == 2
    assert list(watched) == [[0, 1], [2]]
    assert next(iter(watched)) == [0, 1]
    trace = watched.trace()
    assert rows(trace) == [[0, 1], [2], [0, 1]]
    assert trace.epoch_starts.tolist() == [0, 2]
    assert trace.num_records == 4
    assert watched.index([2]) == 1  # every other attribute is the original's
    with pytest.raises(TargetError, match="function is not a loader"):
        watch(lambda: [[0]])


def test_labels_become_groups() -> None:
    loader = DataLoader(TensorDataset(torch.arange(4)), batch_size=2)
    assert record(loader, steps=1, labels=["b", "a", "c", "a"]).groups.tolist() == [1, 0, 2, 0]
    doubled = Subset(TensorDataset(torch.arange(4)), [3, 3, 1])
    trace = record(DataLoader(doubled, batch_size=2), steps=1, labels=torch.tensor([7, 7, 9]))
    assert trace.groups.tolist() == [1, 0]  # of the records at rows 1 and 3
    with pytest.raises(DpauditError, match="do not fit 4 records"):
        record(loader, steps=1, labels=[0, 1])
    stored = SamplingTrace.from_batches([[0, 1]], num_records=2)
    assert record(stored, labels=[5, 4]).groups.tolist() == [1, 0]


class Stream(IterableDataset):
    def __init__(self, records: list[Any], length: int | None = None) -> None:
        self.records, self.length = records, length

    def __iter__(self):
        return iter(self.records)

    def __len__(self) -> int:
        if self.length is None:
            raise TypeError
        return self.length


def test_iterable_data_set_by_fingerprint() -> None:
    pictures = [(torch.full((2, 2), float(i)), i % 2) for i in (5, 3, 5, 9)]
    recording = capture(DataLoader(Stream(pictures), batch_size=3), steps=4)
    assert recording.method is Method.FINGERPRINT
    assert rows(recording.trace) == [[0, 1, 0], [2], [0, 1, 0], [2]]  # the picture of 5 comes twice
    assert recording.trace.num_records == 3
    assert any("identical records count as one" in note for note in recording.notes)
    assert any(note.startswith("1 records came more than once") for note in recording.notes)
    known = capture(DataLoader(Stream(pictures, 4), batch_size=3), steps=2)
    assert known.trace.num_records == 4
    assert known.facts.steps_per_epoch == 2


def test_records_that_change_at_each_reading_are_refused() -> None:
    class Augmented(Stream):
        def __iter__(self):
            return (record + torch.rand(()) for record in super().__iter__())

    numbers = list(torch.arange(6.0))
    for length, message in (
        (6, "12 different records came from a data set of 6"),
        (None, "no record came twice"),
    ):
        with pytest.raises(DpauditError, match=message) as caught:
            record(DataLoader(Augmented(numbers, length), batch_size=3), steps=4)
        assert "augment" in caught.value.hint
    with pytest.raises(TargetError, match="whole batches"):
        record(DataLoader(Stream(numbers), batch_size=None))


def facts(**known: Any) -> LoaderFacts:
    return LoaderFacts(loader="DataLoader", **known)


@pytest.mark.parametrize(
    ("known", "method", "steps"),
    [
        (facts(), Method.STREAM, 400),
        (facts(steps_per_epoch=24, batch_size=64), Method.CARRIED, 400),
        (facts(steps_per_epoch=500, batch_size=64), Method.CARRIED, 1500),
        (facts(steps_per_epoch=5000, batch_size=256), Method.INDEX_ONLY, 15000),
        (facts(steps_per_epoch=5000, batch_size=256), Method.CARRIED, 781),
        (facts(steps_per_epoch=5000, batch_size=4096), Method.CARRIED, 400),
        (facts(steps_per_epoch=500, sample_rate=0.002, num_records=500_000), Method.CARRIED, 400),
    ],
)
def test_default_number_of_steps(known: LoaderFacts, method: Method, steps: int) -> None:
    assert default_steps(known, method) == steps
