from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from dpaudit.errors import TraceError
from dpaudit.trace import SamplingTrace
from dpaudit.trace_file import CHUNKS, HEADER, INDICES, SIZES, TraceReader, open_trace
from dpaudit.trace_writer import TraceWriter, join_traces

N = 50


def batches(steps: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.flatnonzero(rng.random(N) < 0.2) for _ in range(steps)]


def write(path, steps: int = 40, **options) -> list[np.ndarray]:
    given = batches(steps)
    with TraceWriter(path, num_records=N, chunk_draws=30, **options) as writer:
        for batch in given:
            writer.add(batch)
    return given


def same(trace: SamplingTrace, given: list[np.ndarray]) -> bool:
    return [batch.tolist() for batch in trace.batches()] == [batch.tolist() for batch in given]


def test_what_was_written_is_read(tmp_path) -> None:
    groups = np.arange(N) % 3
    given = batches(12)
    with TraceWriter(tmp_path / "t", num_records=N, groups=groups, chunk_draws=20) as writer:
        for step, batch in enumerate(given):
            if step in (0, 6):
                writer.start_run()
            if step % 3 == 0:
                writer.start_epoch()
                writer.start_epoch()  # a pass that gave nothing
            writer.add(batch)
        writer.start_epoch()  # nothing follows
    trace = SamplingTrace.load(tmp_path / "t")
    assert same(trace, given)
    assert trace.num_records == N
    assert trace.epoch_starts.tolist() == [0, 3, 6, 9]
    assert trace.run_starts.tolist() == [0, 6]
    assert trace.groups.tolist() == groups.tolist()
    assert trace.remarks == ()
    assert trace.indices.dtype == np.int32
    assert not trace.indices.flags.owndata  # mapped
    trace.save(tmp_path / "t.npz")
    assert same(SamplingTrace.load(tmp_path / "t.npz"), given)


def test_empty_steps_and_an_unknown_number_of_records(tmp_path) -> None:
    with TraceWriter(tmp_path / "t") as writer:
        for batch in ([], [3, 1], [], []):
            writer.add(batch)
    trace = SamplingTrace.load(tmp_path / "t")
    assert same(trace, [np.array(batch) for batch in ([], [3, 1], [], [])])
    assert trace.num_records == 4
    assert "N was not stated" in trace.remarks[0]
    with TraceWriter(tmp_path / "later") as writer:
        writer.add([1])
        writer.close(num_records=9)
    trace = SamplingTrace.load(tmp_path / "later")
    assert (trace.num_records, trace.remarks) == (9, ())


def test_only_empty_steps(tmp_path) -> None:
    with TraceWriter(tmp_path / "t", num_records=3) as writer:
        writer.add([])
    assert SamplingTrace.load(tmp_path / "t").batch_sizes.tolist() == [0]


def test_batches_are_copied_and_the_clock_ends_chunks(tmp_path) -> None:
    buffer = np.arange(3)
    writer = TraceWriter(tmp_path / "t", num_records=N, chunk_seconds=0)
    writer.add(buffer)
    buffer += 10
    time.sleep(0.01)
    writer.add(buffer)
    assert same(open_trace(tmp_path / "t"), [np.arange(3), np.arange(10, 13)])


@pytest.mark.parametrize(
    ("batch", "message"), [([0.5], "whole"), ([[1]], "shape"), ([-1], "-1"), ([N], str(N))]
)
def test_wrong_batches_are_refused_and_leave_no_mark(tmp_path, batch, message) -> None:
    with TraceWriter(tmp_path / "t", num_records=N) as writer:
        writer.add([1])
        with pytest.raises(TraceError, match=message):
            writer.add(batch)
    assert same(open_trace(tmp_path / "t"), [np.array([1])])


KILLED = """
import sys, time
import numpy as np
from dpaudit.trace_writer import TraceWriter
rng = np.random.default_rng(0)
writer = TraceWriter(sys.argv[1], num_records=50, chunk_draws=1000, chunk_seconds=1e9)
while True:
    writer.add(np.flatnonzero(rng.random(50) < 0.2))
    print(writer.steps, flush=True)
"""


def test_a_kill_loses_at_most_the_last_chunk(tmp_path) -> None:
    path = tmp_path / "t"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        taken = 0
        while taken < 1234:
            taken = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        left = child.stdout.read().split("\n")  # whole lines only
    taken = int(left[-2]) if len(left) > 1 else taken
    trace = SamplingTrace.load(path)
    given = batches(trace.steps)
    assert same(trace, given)
    assert sum(map(len, batches(taken)[trace.steps :])) < 1000
    assert "killed" in trace.remarks[0]


@pytest.mark.parametrize("name", [INDICES, SIZES, CHUNKS])
@pytest.mark.parametrize("damage", ["cut", "flipped", "longer"])
def test_damage_leaves_the_steps_before_it(tmp_path, name, damage) -> None:
    given = write(tmp_path / "t")
    whole = open_trace(tmp_path / "t")
    file = tmp_path / "t" / name
    content = bytearray(file.read_bytes())
    if damage == "cut":
        content = content[: len(content) * 2 // 3 + 1]
    elif damage == "flipped":
        content[len(content) * 2 // 3] ^= 1
    else:
        content += b"\x07" * 11
    file.write_bytes(content)
    trace = open_trace(tmp_path / "t")
    assert same(trace, given[: trace.steps])
    if damage == "longer":
        assert trace.steps == whole.steps
        assert ("damaged" in " ".join(trace.remarks)) == (name == CHUNKS)
    else:
        assert 0.3 * whole.steps < trace.steps < 0.8 * whole.steps
        assert f"damaged after step {trace.steps}" in trace.remarks[0]


def _bad_header(path, **changes) -> None:
    header = json.loads((path / HEADER).read_text())
    (path / HEADER).write_text(json.dumps(header | changes))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: (path / HEADER).unlink(), "No such file"),
        (lambda path: (path / HEADER).write_text("{"), "damaged"),
        (lambda path: (path / HEADER).write_text("[]"), "damaged"),
        (lambda path: _bad_header(path, version=2), "not of"),
        (lambda path: _bad_header(path, index="|O"), "not of"),
        (lambda path: _bad_header(path, num_records=3), "outside"),
        (lambda path: (path / CHUNKS).unlink(), "No such file"),
        (lambda path: (path / CHUNKS).write_bytes(b""), "no whole chunk"),
        (lambda path: (path / INDICES).unlink(), "no whole chunk"),
        (lambda path: np.save(path / "groups.npy", np.array([object()])), "damaged"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path, harm, message) -> None:
    write(tmp_path / "t")
    harm(tmp_path / "t")
    with pytest.raises(TraceError, match=message) as caught:
        SamplingTrace.load(tmp_path / "t")
    assert str(tmp_path / "t") in caught.value.message


def test_places_that_cannot_be_written(tmp_path) -> None:
    write(tmp_path / "t")
    with pytest.raises(TraceError, match="not empty"):
        TraceWriter(tmp_path / "t")
    with pytest.raises(TraceError, match="cannot write"):
        TraceWriter(tmp_path / "absent" / "t")
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="cannot write"):
        TraceWriter(tmp_path / "file")


def test_a_failed_write_can_be_made_good(tmp_path, monkeypatch) -> None:
    given = batches(3)
    writer = TraceWriter(tmp_path / "t", num_records=N)
    writer.add(given[0])
    writer.flush()
    writer.add(given[1])
    (tmp_path / "t" / CHUNKS).rename(tmp_path / "away")  # found only after the other files have grown
    with pytest.raises(TraceError, match="cannot write"):
        writer.flush()
    (tmp_path / "away").rename(tmp_path / "t" / CHUNKS)
    writer.add(given[2])
    writer.close()
    assert same(open_trace(tmp_path / "t"), given)


def test_a_fork_writes_nothing(tmp_path) -> None:
    with TraceWriter(tmp_path / "t", num_records=N) as writer:
        writer.add([1])
        writer._process = -1  # as in a child
        writer.flush()
        writer.close()
        assert os.path.getsize(tmp_path / "t" / CHUNKS) == 0
        writer._process = os.getpid()


def test_a_growing_file_is_read_as_it_grows(tmp_path) -> None:
    given = batches(6)
    writer = TraceWriter(tmp_path / "t", num_records=N)
    reader = TraceReader(tmp_path / "t")
    assert list(reader.chunks()) == []
    seen = []
    for first in (0, 3):
        for batch in given[first : first + 3]:
            writer.add(batch)
        writer.flush()
        (chunk,) = reader.chunks()
        assert chunk.first_step == first
        seen += np.split(chunk.indices, np.cumsum(chunk.sizes)[:-1])
    assert [batch.tolist() for batch in seen] == [batch.tolist() for batch in given]
    assert not reader.closed
    writer.close()
    assert reader.closed


def test_traces_join(tmp_path) -> None:
    one = SamplingTrace.from_batches(batches(5), num_records=N, epoch_starts=np.array([0, 2]))
    other = SamplingTrace.from_batches(batches(4, seed=1), num_records=N, run_starts=np.array([0, 3]))
    joined = join_traces([one, other], tmp_path / "runs")
    assert same(joined, [*one.batches(), *other.batches()])
    assert joined.run_starts.tolist() == [0, 5, 8]
    assert joined.epoch_starts.tolist() == [0, 2]
    pieces = join_traces([one, one], tmp_path / "pieces", as_runs=False)
    assert pieces.run_starts is None
    assert pieces.epoch_starts.tolist() == [0, 2, 5, 7]


def test_traces_that_do_not_join(tmp_path) -> None:
    one = SamplingTrace.from_batches([[0]], num_records=2)
    for other in (
        SamplingTrace.from_batches([[0]], num_records=3),
        SamplingTrace.from_batches([[0]], num_records=2, groups=np.array([0, 1])),
        SamplingTrace.from_batches([[0]], num_records=2, numbered_by_appearance=True),
    ):
        with pytest.raises(ValueError, match="do not join"):
            join_traces([one, other], tmp_path / "t")
    with pytest.raises(ValueError, match="no trace"):
        join_traces([], tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("repeats", [False, True])
def test_a_mapped_trace_is_audited_as_one_in_memory(tmp_path, monkeypatch, repeats) -> None:
    from dpaudit.sampling import battery, check_sampling

    monkeypatch.setattr(battery, "_MOST_BYTES", 0)  # copies go to disk too
    rng = np.random.default_rng(0)
    given = [batch for _ in range(8) for batch in rng.permutation(N).reshape(10, 5)]
    if repeats:
        given = [np.concatenate((batch, batch[:1])) for batch in given]
    with TraceWriter(tmp_path / "t", num_records=N, chunk_draws=30) as writer:
        for batch in given:
            writer.add(batch)
    mapped = check_sampling(open_trace(tmp_path / "t"), sampling_rate=0.1)
    kept = check_sampling(SamplingTrace.from_batches(given, num_records=N), sampling_rate=0.1)
    assert mapped == kept
    assert mapped.rejects_poisson
