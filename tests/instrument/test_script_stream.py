"""A program recorded to disk: the same trace as in memory, whole or killed, and memory that stays flat."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dpaudit.cli.main import run
from dpaudit.errors import TraceError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script import Program, ScriptRun, record_script, script_result, spool
from dpaudit.instrument.script.feed import Feed
from dpaudit.instrument.script.spooled import is_recording, recovered
from dpaudit.instrument.script.step_names import RELEASE
from dpaudit.instrument.seeding import restored
from dpaudit.trace import SamplingTrace
from dpaudit.trace_writer import TraceWriter, join_traces

pytest.importorskip("torch")
PROGRAMS = Path(__file__).parents[1] / "pipelines" / "programs"
SETUP = """
import sys
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, random_split
torch.manual_seed(3)
N, B = 40, 5
data = TensorDataset(torch.arange(float(N))[:, None])
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def train(batch):
    optimizer.zero_grad()
    model(batch[0]).sum().backward()
    optimizer.step()
"""
PLAYED = {
    "a part of the data": (
        "loader = DataLoader(random_split(data, [30, 10])[0], batch_size=B, shuffle=True)\n"
        "for _ in range(3):\n    for batch in loader:\n        train(batch)\n"
    ),
    "another part each epoch": (
        "for k in range(3):\n"
        "    for batch in DataLoader(Subset(data, range(10 * k, 10 * k + 10)), batch_size=B):\n"
        "        train(batch)\n"
    ),
    "one batch at a time, and a look at others": (
        "loader = DataLoader(data, batch_size=B, shuffle=True)\n"
        "held = iter(DataLoader(data, batch_size=1))\n"
        "for _ in range(20):\n    train(next(iter(loader)))\n    next(held)\n"
    ),
    "two optimizers, accumulated steps": (
        "second = torch.optim.Adam(torch.nn.Linear(1, 1).parameters())\n"
        "loader = DataLoader(data, batch_size=B, shuffle=True)\n"
        "for _ in range(3):\n"
        "    for number, (x,) in enumerate(loader):\n"
        "        model(x).sum().backward()\n"
        "        if number % 2:\n            optimizer.step()\n"
        "        if number % 4 == 3:\n            second.step()\n"
    ),
    "joined before each backward": (
        "for _ in range(4):\n"
        "    batches = iter(DataLoader(data, batch_size=B, shuffle=True))\n"
        "    for batch, other in zip(batches, batches):\n"
        "        train([torch.cat([batch[0], other[0]])])\n"
    ),
    "a data set made anew": (
        "for _ in range(3):\n"
        "    for batch in DataLoader(TensorDataset(torch.rand(N, 1)), batch_size=B):\n        train(batch)\n"
    ),
    "records told by content": (
        "class Stream(IterableDataset):\n"
        "    def __iter__(self):\n"
        "        return ((torch.tensor([float(i)]),) for i in torch.randperm(N).tolist())\n"
        "for _ in range(3):\n    for batch in DataLoader(Stream(), batch_size=B):\n        train(batch)\n"
    ),
    "steps marked by hand": (
        "import dpaudit\nfor k in range(9):\n    dpaudit.step([k, k + 1] if k % 4 else [], num_records=N)\n"
    ),
}
# Accumulation, two backwards, a memory manager, validation between, a prefetcher, loaders made anew.
FROM_THE_GALLERY = {
    "opacus_poisson": False,
    "opacus_accumulation": True,
    "opacus_ghost": True,
    "opacus_memory_manager": True,
    "opacus_memory_manager_other_loader": True,
    "opacus_validation": True,
    "opacus_skips_empty_batches": True,
    "opacus_skips_large_batches": True,
    "opacus_workers": True,
    "prefetched_poisson": True,
    "fixed_size_draws": True,
    "by_hand_two_draws_a_step": True,
    "numpy_marked_steps": True,
    "hf_trainer_private_loader": True,
    "hf_datasets_streamed": True,
    "accelerate_poisson": True,
    "stateful_poisson": True,
    "lightning_datamodule": True,
}
LIBRARIES = {"hf": "accelerate", "opacus": "opacus", "prefetched": "opacus", "lightning": "pytorch_lightning"}
LIBRARIES |= {"stateful": "torchdata", "accelerate": "accelerate"}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored():
        yield


def record(program: Program, stream: Path | None = None) -> ScriptRun:
    with restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return record_script(program, stream=stream)


def assert_equal(one: SamplingTrace, other: SamplingTrace) -> None:
    for name in ("indices", "offsets", "epoch_starts"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.num_records == other.num_records
    assert one.numbered_by_appearance == other.numbered_by_appearance


def assert_same_run(program: Program, stream: Path) -> None:
    kept, streamed = record(program), record(program, stream)
    assert streamed.notes == kept.notes
    assert streamed.claim == kept.claim
    for one, other in zip(streamed.traces, kept.traces, strict=True):
        assert_equal(one.recording.trace, other.recording.trace)
        assert one.recording.notes == other.recording.notes
        assert np.array_equal(one.step_numbers, other.step_numbers)
        assert np.array_equal(one.recording.names, other.recording.names)
        assert (one.batches, one.optimizer) == (other.batches, other.optimizer)
    stored = SamplingTrace.load(stream)
    assert_equal(stored, kept.main.recording.trace)
    assert stored.remarks == ()
    assert not list(stream.glob("feed-*")) + list(stream.glob("trace-*"))


@pytest.mark.parametrize("name", PLAYED)
def test_the_trace_on_disk_is_that_of_memory(name: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETUP + PLAYED[name])
    assert_same_run(Program(str(tmp_path / "train.py")), tmp_path / "kept")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if slow else name for name, slow in FROM_THE_GALLERY.items()],
)
def test_programs_of_the_gallery_leave_the_same_trace(name: str, tmp_path: Path) -> None:
    library = LIBRARIES.get(name.split("_")[0], "torch")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    assert_same_run(Program(str(PROGRAMS / f"{name}.py")), tmp_path / "kept")


FOREVER = """
loader = DataLoader(random_split(data, [30, 10])[0], batch_size=B, shuffle=True)
while True:
    for batch in loader:
        train(batch)
        print(flush=True)
    for batch in loader:  # training accuracy
        model(batch[0])
"""


@pytest.mark.slow
def test_a_killed_program_has_left_what_its_chunks_hold(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETUP + FOREVER)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dpaudit import trace_writer\n"
        "from dpaudit.instrument.script import Program, record_script\n"
        "trace_writer.TraceWriter.__init__.__kwdefaults__['chunk_draws'] = 400\n"
        "record_script(Program('train.py'), stream=Path('kept'))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=tmp_path, env=environment
    ) as child:
        for _ in range(1000):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    assert is_recording(tmp_path / "kept")
    left = recovered(tmp_path / "kept")
    assert left.num_records == 30
    assert 1000 - 2 * 400 / 5 < left.steps <= 1100  # half of the batches of a chunk are of no step
    assert "was killed" in left.remarks[0]
    (tmp_path / "train.py").write_text(SETUP + FOREVER.replace("print(flush=True)", "pass"))
    with restored():
        whole = record_script(Program(str(tmp_path / "train.py")), steps=left.steps).main.recording.trace
    assert np.array_equal(left.indices, whole.indices)
    assert np.array_equal(left.offsets, whole.offsets)
    # A chunk that is damaged is left out, with all after it.
    indices = tmp_path / "kept" / "feed-0" / "batches" / "indices.bin"
    indices.write_bytes(indices.read_bytes()[:-8])
    assert 0 < recovered(tmp_path / "kept").steps < left.steps


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETUP + PLAYED["a part of the data"])
    with pytest.raises(TraceError, match="not empty"):
        record_script(Program(str(tmp_path / "train.py")), stream=tmp_path)
    with pytest.raises(TraceError, match="cannot write"):
        record_script(Program(str(tmp_path / "train.py")), stream=tmp_path / "absent" / "kept")


def test_a_full_disk_ends_the_recording_and_not_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.py").write_text(SETUP + PLAYED["a part of the data"] + "print('at its end')\n")
    append, written = TraceWriter._append, []

    def fails(self: TraceWriter, name: str, content: bytes) -> None:
        if self.path.name == "batches":
            written.append(name)
            if len(written) > 20:
                raise TraceError("cannot write the trace: No space left on device")
        append(self, name, content)

    monkeypatch.setattr(TraceWriter, "_append", fails)
    monkeypatch.setitem(TraceWriter.__init__.__kwdefaults__, "chunk_draws", 5)
    run = record(Program(str(tmp_path / "train.py")), tmp_path / "kept")
    captured = capsys.readouterr()
    assert "at its end" in captured.out
    assert "No space left" in captured.err
    assert 0 < run.main.recording.trace.steps < 18
    assert any("No space left" in note for note in run.notes)


def test_marks_without_batches_are_written_and_do_not_pile_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "train(next(iter(DataLoader(TensorDataset(torch.rand(3, 1))))))\n" + PLAYED["a part of the data"]
    (tmp_path / "train.py").write_text(SETUP + text)
    monkeypatch.setattr(spool, "_MARKS", 4)
    waiting, mark = [], TraceWriter.mark

    def marked(self: TraceWriter, what: int) -> None:
        mark(self, what)
        if self.path.parent.name == "feed-0":
            waiting.append(len(self._marks))

    monkeypatch.setattr(TraceWriter, "mark", marked)
    assert_same_run(Program(str(tmp_path / "train.py")), tmp_path / "kept")
    assert len(waiting) > 20
    assert max(waiting) < 10


def test_compiled_steps_of_a_killed_program_are_not_judged(tmp_path: Path) -> None:
    place = spool.Spool(tmp_path / "kept")
    feed = Feed(None, Method.STREAM, LoaderFacts(loader="a loader", num_records=9), place.new_log())
    source = feed.start_pass(None)
    for number in range(6):
        feed.deliver(source, [number], True)
        feed.use()
        feed.step(1, RELEASE, number)
    place.close()
    with pytest.raises(TraceError, match="steps that JAX compiled has no end"):
        recovered(tmp_path / "kept")


def test_skipped_steps_of_a_killed_program_are_not_judged(tmp_path: Path) -> None:
    place = spool.Spool(tmp_path / "kept")
    feed = Feed(None, Method.STREAM, LoaderFacts(loader="a loader", num_records=9), place.new_log())
    source = feed.start_pass(None)
    for number in range(6):
        feed.deliver(source, [number], True)
        feed.use()
        (feed.skip if number == 3 else feed.step)(1, "SGD", number)
    place.close()
    left = recovered(tmp_path / "kept")
    assert left.steps == 5
    assert "skipped steps" in left.withheld


@pytest.mark.parametrize("flag", ["--stream", "--save-trace"])
def test_a_trace_of_a_run_without_a_verdict_gets_none_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    (tmp_path / "train.py").write_text(SETUP + PLAYED["one batch at a time, and a look at others"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(script_result, "_unfollowable", lambda *_: "Nobody knows what was used.")
    claim = ("--sampling-rate", "0.5", "--noise-multiplier", "1")
    kept = "kept" if flag == "--stream" else "kept.npz"
    assert run(["sampler", "--script", "train.py", flag, kept, *claim]) == 3
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert SamplingTrace.load(kept).withheld == "Nobody knows what was used."
    assert run(["sampler", kept, *claim]) == 3
    if flag == "--stream":
        assert run(["sampler", kept, "--follow", *claim]) == 2
    join_traces([SamplingTrace.load(kept)], "joined")
    assert run(["sampler", "joined", *claim]) == 3


GROWING = """
class Batches:
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(int(sys.argv[1])):
            yield torch.randint(0, 100_000, (2000,), generator=generator).tolist()

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 100_000
    def __getitems__(self, rows):
        return rows
    def __getitem__(self, row):
        return row

loader = DataLoader(Numbers(), batch_sampler=Batches(), collate_fn=lambda rows: [torch.ones(1, 1)])
for batch in loader:
    train(batch)
"""
PEAK = """
import resource, sys
from pathlib import Path
from dpaudit.instrument.script import Program, record_script
run = record_script(Program("train.py", (sys.argv[1],)), stream=Path("kept" + sys.argv[1]))
trace = run.main.recording.trace
assert trace.draws == 2000 * int(sys.argv[1]), trace.draws
private = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")]
print(private[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("steps", [500, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_draws(tmp_path: Path, steps: int) -> None:
    (tmp_path / "train.py").write_text(SETUP + GROWING)
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    kilobytes = []
    for count in (steps // 10, steps):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(count)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        kilobytes.append(int(done.stdout))
        shutil.rmtree(tmp_path / f"kept{count}")
    draws = 0.9 * steps * 2000
    assert (kilobytes[1] - kilobytes[0]) * 1024 < 12e6 + 0.2 * draws, kilobytes  # they take 4 bytes on disk
