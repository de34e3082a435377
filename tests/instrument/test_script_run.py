"""Whole programs under the recorder: they see what they see without it, and behave as without it."""

from __future__ import annotations

import gc
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument.script import How, Program, ScriptRun, record_script
from dpaudit.instrument.script.launch import run_program
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.torch_patches import _found_inf
from dpaudit.instrument.seeding import restored

SETUP = """
import random, sys
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split
torch.manual_seed(3); np.random.seed(3); random.seed(3)
N, B = 40, 5

class Augmented(Dataset):
    '''Draws from every global generator, as augmentation does.'''
    def __len__(self):
        return N
    def __getitem__(self, i):
        noise = random.random() + np.random.random() + torch.rand(()).item()
        return torch.tensor([i / N, noise]), i % 2

model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses, seen = [], []

def train(batch):
    x, y = batch
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(model(x), torch.as_tensor(y))
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    seen.append([round(float(v) * N) for v in x[:, 0]])
"""
LOOP = "for epoch in range(4):\n    for batch in loader:\n        train(batch)\n"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored():
        yield
    gc.collect()  # worker processes of the programs


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Program]:
    def written(text: str, *arguments: str, setup: str = SETUP, name: str = "train.py") -> Program:
        (tmp_path / name).write_text(setup + text)
        return Program(str(tmp_path / name), arguments)

    return written


def batches(run: ScriptRun) -> list[list[int]]:
    return [batch.tolist() for batch in run.main.recording.trace.batches()]


def namespace(program: Program) -> dict:
    ending, module = run_program(program)
    assert ending.how is How.FINISHED, ending.traceback
    return vars(module)


SAME = {
    "shuffle": "loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n" + LOOP,
    "workers": "loader = DataLoader(Augmented(), batch_size=B, shuffle=True, num_workers=2)\n" + LOOP,
    "persistent workers": (
        "loader = DataLoader(Augmented(), batch_size=B, shuffle=True, num_workers=1,\n"
        "    persistent_workers=True)\n" + LOOP
    ),
    "own collate function": (
        "loader = DataLoader(Augmented(), batch_size=B, shuffle=True,\n"
        "    collate_fn=lambda items: torch.utils.data.default_collate(items[:-1]))\n" + LOOP
    ),
    "a part, split at random": (
        "train_part, val_part = random_split(Augmented(), [30, 10])\n"
        "loader = DataLoader(train_part, batch_size=B, shuffle=True)\n"
        "val = DataLoader(val_part, batch_size=B)\n"
        "for epoch in range(4):\n"
        "    for batch in loader:\n        train(batch)\n"
        "    for x, y in val:\n        model(x)\n"
    ),
    "one batch at a time": (
        "loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n"
        "for _ in range(20):\n    train(next(iter(loader)))\n"
    ),
    "a new loader each epoch": (
        "for epoch in range(4):\n"
        "    for batch in DataLoader(Augmented(), batch_size=B, shuffle=True):\n        train(batch)\n"
    ),
    "a loader class with an iteration of its own": (
        "class Repeating(DataLoader):\n"
        "    def __iter__(self):\n"
        "        for batch in super().__iter__():\n"
        "            yield batch\n"
        "loader = Repeating(Augmented(), batch_size=B, shuffle=True)\n" + LOOP
    ),
    "a loader class that looks ahead": (
        "class Ahead(DataLoader):\n"
        "    def __iter__(self):\n"
        "        inner = super().__iter__()\n"
        "        held = next(inner)\n"
        "        for batch in inner:\n"
        "            yield held\n"
        "            held = batch\n"
        "        yield held\n"
        "loader = Ahead(Augmented(), batch_size=B, shuffle=True)\n" + LOOP
    ),
    "a prefetcher": (
        "def ahead(batches):\n"
        "    held = []\n"
        "    for batch in batches:\n"
        "        held.append(batch)\n"
        "        if len(held) > 3:\n            yield held.pop(0)\n"
        "    yield from held\n"
        "loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n"
        "for epoch in range(4):\n    for batch in ahead(loader):\n        train(batch)\n"
    ),
    "a closure": (
        "loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n"
        "def train(batch):\n"
        "    x, y = batch\n"
        "    def closure():\n"
        "        optimizer.zero_grad()\n"
        "        loss = torch.nn.functional.cross_entropy(model(x), y)\n"
        "        loss.backward()\n"
        "        return loss\n"
        "    losses.append(optimizer.step(closure).item())\n"
        "    seen.append([round(float(v) * N) for v in x[:, 0]])\n" + LOOP
    ),
    "gradients by torch.func": (
        "loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n"
        "def train(batch):\n"
        "    x, y = batch\n"
        "    def loss(values):\n"
        "        out = torch.func.functional_call(model, values, (x,))\n"
        "        return torch.nn.functional.cross_entropy(out, y)\n"
        "    grads, value = torch.func.grad_and_value(loss)(dict(model.named_parameters()))\n"
        "    for name, weight in model.named_parameters():\n        weight.grad = grads[name].detach()\n"
        "    optimizer.step()\n"
        "    losses.append(value.item())\n"
        "    seen.append([round(float(v) * N) for v in x[:, 0]])\n" + LOOP
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_a_program_sees_the_same_and_the_trace_is_what_it_saw(write, name: str, monkeypatch) -> None:
    program = write(SAME[name])
    bare = namespace(program)
    kept: dict = {}
    monkeypatch.setattr("builtins.keep_for_test", kept, raising=False)
    run = record_script(write(SAME[name] + "\nkeep_for_test.update(losses=losses, seen=seen)\n"))
    assert kept["losses"] == bare["losses"]  # to the last bit: data, order and randomness are the same
    trace = run.main.recording.trace
    assert trace.steps == len(bare["seen"])
    if name == "a part, split at random":
        assert trace.num_records == 30
        rank = {row: number for number, row in enumerate(sorted(bare["train_part"].indices))}
        assert batches(run) == [[rank[row] for row in rows] for rows in bare["seen"]]
    else:
        assert batches(run) == bare["seen"]
        assert trace.num_records == 40


def test_records_of_a_stream_are_told_by_their_content(write) -> None:
    text = """
class Stream(IterableDataset):
    def __iter__(self):
        order = torch.randperm(N).tolist()
        return ((torch.tensor([i / N, 0.0]), i % 2) for i in order)
loader = DataLoader(Stream(), batch_size={size})
"""
    whole = text.format(size="B") + LOOP
    bare = namespace(write(whole))["seen"]
    for program in (whole, text.format(size="None").replace(
        "return ((torch.tensor([i / N, 0.0]), i % 2) for i in order)",
        "return ((torch.tensor([[i / N, 0.0] for i in order[k:k + B]]),"
        " torch.tensor([i % 2 for i in order[k:k + B]])) for k in range(0, N, B))",
    ) + LOOP):  # fmt: skip
        run = record_script(write(program))
        numbers: dict[int, int] = {}
        renamed = [[numbers.setdefault(row, len(numbers)) for row in batch] for batch in bare]
        assert batches(run) == renamed
        assert run.main.recording.trace.num_records == 40


def test_validation_and_other_loaders_stay_out(write) -> None:
    text = """
loader = DataLoader(Augmented(), batch_size=B, shuffle=True)
other = DataLoader(TensorDataset(torch.rand(30, 2)), batch_size=10)
held = iter(DataLoader(TensorDataset(torch.rand(300, 2)), batch_size=10))
for epoch in range(4):
    for batch in loader:
        train(batch)
    model(next(held)[0])
    for (x,) in other:
        model(x)
    for (x,) in other:  # left early
        break
    for x, y in loader:  # training accuracy
        model(x)
"""
    seen = namespace(write(text))["seen"]
    run = record_script(write(text))
    assert batches(run) == seen


def test_accumulated_steps_and_two_optimizers(write) -> None:
    text = """
loader = DataLoader(Augmented(), batch_size=B, shuffle=True)
second = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
rows = []
for epoch in range(3):
    for number, (x, y) in enumerate(loader):
        torch.nn.functional.cross_entropy(model(x), y).backward()
        rows.append([round(float(v) * N) for v in x[:, 0]])
        if number % 2 == 1:
            optimizer.step()
        if number % 4 == 3:
            second.step()
"""
    rows = namespace(write(text))["rows"]
    run = record_script(write(text))
    assert batches(run) == [first + other for first, other in zip(rows[::2], rows[1::2], strict=True)]
    assert [one.optimizer for one in run.traces] == ["SGD", "Adam"]
    assert run.traces[1].recording.trace.steps == 6
    assert any("Adam" in note for note in run.notes)


def test_epochs_begin_where_the_loader_is_iterated_anew(write) -> None:
    run = record_script(write("loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n" + LOOP))
    assert run.main.recording.trace.epoch_starts.tolist() == [0, 8, 16, 24]
    assert run.steps == 32


def test_it_stops_after_the_wanted_steps(write, tmp_path: Path) -> None:
    text = f"""
loader = DataLoader(Augmented(), batch_size=B, shuffle=True)
try:
    while True:
        for batch in loader:
            try:
                train(batch)
            except Exception:
                pass
finally:
    open({str(tmp_path / "left")!r}, "w").write(str(len(losses)))
"""
    run = record_script(write(text), steps=13)
    assert run.ending.how is How.STOPPED
    assert run.steps == run.main.recording.trace.steps == 13
    assert (tmp_path / "left").exists()


def test_arguments_names_and_paths(write, tmp_path: Path) -> None:
    (tmp_path / "next_to_it.py").write_text("value = 7\n")
    text = """
import argparse, next_to_it
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
epochs = parser.parse_args().epochs
is_main = sys.modules["__main__"].__dict__ is globals()
told = (__name__, __file__, sys.argv, sys.path[0], is_main, next_to_it.value)
keep_for_test.update(told=told)
loader = DataLoader(Augmented(), batch_size=B)
for _ in range(epochs):
    for batch in loader:
        train(batch)
"""
    kept: dict = {}
    import builtins

    builtins.keep_for_test = kept
    try:
        program = write(text, "--epochs", "2")
        assert record_script(program).steps == 16
    finally:
        del builtins.keep_for_test
    name, file, argv, first, is_main, value = kept["told"]
    assert (name, file, is_main, value) == ("__main__", program.name, True, 7)
    assert argv == [program.name, "--epochs", "2"]
    assert first == str(tmp_path)
    assert sys.modules["__main__"].__dict__ is not kept


def test_a_module_with_relative_imports(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "mypackage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(SETUP)
    (package / "train.py").write_text(
        "from .parts import *\nfrom .parts import B, N\nassert __package__ == 'mypackage'\n"
        "loader = DataLoader(Augmented(), batch_size=B)\n" + LOOP
    )
    monkeypatch.chdir(tmp_path)
    assert record_script(Program("mypackage.train", is_module=True)).steps == 32
    with pytest.raises(TargetError, match=r"no module 'mypackage\.trian'"):
        record_script(Program("mypackage.trian", is_module=True))


@pytest.mark.parametrize(
    ("last", "how", "message", "failure"),
    [
        ("sys.exit()", How.EXITED, "", False),
        ("sys.exit(0)", How.EXITED, "0", False),
        ("sys.exit(3)", How.EXITED, "3", True),
        ("sys.exit('no luck')", How.EXITED, "no luck", True),
        ("raise ValueError('loss is nan')", How.FAILED, "ValueError: loss is nan", True),
    ],
)
def test_how_a_program_ends_is_told(write, capsys, last, how, message, failure) -> None:
    run = record_script(write("loader = DataLoader(Augmented(), batch_size=B)\n" + LOOP + last + "\n"))
    assert (run.ending.how, run.ending.message, run.ending.is_failure) == (how, message, failure)
    assert run.steps == 32  # what it did before is there
    err = capsys.readouterr().err
    if how is How.FAILED:
        assert "train.py" in err
        assert "dpaudit/" not in err
        assert "ATTENTION" in run.notes[0]
    if message == "no luck":
        assert "no luck" in err


def test_an_exception_of_the_data_set_is_the_users_own(write, capsys) -> None:
    text = """
class Broken(Augmented):
    def __getitem__(self, i):
        if i == 17:
            raise KeyError("record 17 is damaged")
        return super().__getitem__(i)
try:
    for batch in DataLoader(Broken(), batch_size=B):
        train(batch)
except KeyError as error:
    losses.append(str(error))
for batch in DataLoader(Broken(), batch_size=B):
    train(batch)
"""
    run = record_script(write(text))
    assert run.ending.message == "KeyError: 'record 17 is damaged'"
    assert "dpaudit/" not in run.ending.traceback
    assert run.steps == 6


def test_patches_are_gone_afterwards(write) -> None:
    loader = torch.utils.data.DataLoader
    before = (loader._get_iterator, torch.autograd.backward, "__init_subclass__" in vars(loader))
    record_script(write("loader = DataLoader(Augmented(), batch_size=B)\n" + LOOP))
    assert (loader._get_iterator, torch.autograd.backward, "__init_subclass__" in vars(loader)) == before
    weight = torch.nn.Parameter(torch.ones(1))
    weight.sum().backward()
    torch.optim.SGD([weight], lr=1.0).step()
    assert weight.item() == 0


@pytest.mark.parametrize("place", ["fetched", "open_tap", "backward", "stepped"])
def test_our_failure_does_not_kill_the_training(write, monkeypatch, capsys, place: str) -> None:
    calls = []
    original = getattr(Session, place)

    def failing(self, *args, **kwargs):
        calls.append(place)
        if len(calls) > 10 or (place == "open_tap" and len(calls) > 1):
            raise RuntimeError("a defect of the recorder")
        return original(self, *args, **kwargs)

    program = write("loader = DataLoader(Augmented(), batch_size=B, shuffle=True)\n" + LOOP + (
        "keep_for_test.update(losses=losses)\n"
    ))  # fmt: skip
    kept: dict = {}
    monkeypatch.setattr("builtins.keep_for_test", kept, raising=False)
    bare = namespace(program)["losses"]
    monkeypatch.setattr(Session, place, failing)
    run = record_script(program)
    assert kept["losses"] == bare
    assert len(bare) == 32
    assert "the program goes on" in capsys.readouterr().err
    assert any("a defect of the recorder" in note for note in run.notes)
    assert 0 < run.main.recording.trace.steps < 32
    calls.clear()
    with pytest.raises(DpauditError, match="a defect of the recorder"):
        record_script(program, strict=True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('nothing to train')\n", "no optimizer step was seen; 0 batches"),
        ("for x, y in DataLoader(Augmented(), batch_size=B):\n    model(x)\n", "8 batches of known loaders"),
        (
            "kept = list(DataLoader(Augmented(), batch_size=B))\nfor batch in kept * 3:\n    train(batch)\n",
            "its batches were kept",
        ),
        (
            "x, y = next(iter(DataLoader(Augmented(), batch_size=N)))\n"
            "for k in range(0, N, B):\n    train((x[k:k + B], y[k:k + B]))\n",
            "one and the same batch",
        ),
        (
            "for _ in range(5):\n    train((torch.rand(3, 2), torch.zeros(3, dtype=int)))\n",
            "5 optimizer steps were seen, but no batch",
        ),
        (
            "class Closed:\n"
            "    def __reduce__(self):\n        raise TypeError('it does not pickle')\n"
            "class Stream(IterableDataset):\n"
            "    def __iter__(self):\n"
            "        return ((torch.ones(2) * i, Closed()) for i in range(N))\n"
            "def rows(items):\n    return torch.stack([x for x, _ in items]), [0] * len(items)\n"
            "for batch in DataLoader(Stream(), batch_size=B, collate_fn=rows):\n    train(batch)\n",
            "40 of 40 records have no content that can be read",
        ),
        (
            "class Batch:\n"
            "    def __init__(self):\n        self.x = torch.rand(B, 2)\n"
            "class Stream(IterableDataset):\n"
            "    def __iter__(self):\n        return (Batch() for _ in range(8))\n"
            "for b in DataLoader(Stream(), batch_size=None, collate_fn=lambda b: b):\n"
            "    train((b.x, [0] * B))\n",
            "Not followed: 8 batches; batches of type Batch have no rows",
        ),
        ("raise OSError('no data')\n", "failed before any training was seen: OSError: no data"),
    ],
)
def test_programs_without_a_trace_are_refused_with_what_was_seen(write, text, said) -> None:
    with pytest.raises(TargetError) as caught:
        record_script(write(text))
    assert said in caught.value.message


def test_a_program_that_never_steps_is_stopped(write) -> None:
    text = "loader = DataLoader(Augmented(), batch_size=B)\nwhile True:\n    for x, y in loader: pass\n"
    with pytest.raises(TargetError, match="no optimizer step was seen; 2000 batches"):
        record_script(write(text), steps=20)


def test_no_such_program(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "data.bin").write_bytes(b"\x00\x01")
    with pytest.raises(TargetError, match="no such script") as caught:
        record_script(Program(str(tmp_path / "trian.py")))
    assert "train.py" in caught.value.hint
    with pytest.raises(TargetError, match="directory"):
        record_script(Program(str(tmp_path)))
    with pytest.raises(TargetError, match="is not Python"):
        record_script(Program(str(tmp_path / "data.bin")))


def test_steps_marked_by_hand(write) -> None:
    import dpaudit

    dpaudit.step([1, 2])  # outside an audit nothing happens
    text = """
import dpaudit
rng = np.random.default_rng(0)
rows = [np.flatnonzero(rng.random(N) < 0.1) for _ in range(25)]
for number, drawn in enumerate(rows):
    dpaudit.step(drawn if number % 2 else np.isin(np.arange(N), drawn), num_records=N)
"""
    run = record_script(write(text))
    expected = namespace(write(text))["rows"]
    assert batches(run) == [rows.tolist() for rows in expected]
    assert run.main.recording.trace.num_records == 40
    text = """
import dpaudit
for batch in DataLoader(Augmented(), batch_size=B):
    x, y = batch
    loss = model(x).sum()
    loss.backward()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= 0.1 * weight.grad
    dpaudit.step()
"""
    run = record_script(write(text))
    assert [len(batch) for batch in batches(run)] == [5] * 8
    assert run.main.optimizer == "dpaudit.step()"


FORKING = """
import os
loader = DataLoader(Augmented(), batch_size=B)
child = os.fork()
for batch in loader:
    train(batch)
if child == 0:
    print("child made", len(losses))
    sys.exit(5)
_, status = os.waitpid(child, 0)
print("exit status", os.waitstatus_to_exitcode(status))
torch.save(model.state_dict(), sys.argv[1])
"""
SPAWNING = """
if __name__ == "__main__":
    loader = DataLoader(Augmented(), batch_size=B, num_workers=1, multiprocessing_context="spawn")
    for batch in loader:
        train(batch)
    torch.save([model.state_dict(), losses], sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("text", [FORKING, SPAWNING])
def test_children_and_checkpoints_are_as_without_us(write, tmp_path: Path, text: str) -> None:
    program = write(text)
    bare, watched = tmp_path / "bare.pt", tmp_path / "watched.pt"
    plain = subprocess.run(
        [sys.executable, program.name, str(bare)], capture_output=True, text=True, check=True
    )
    command = [sys.executable, "-m", "dpaudit", "sampler", "--script", program.name, "--format", "json"]
    done = subprocess.run([*command, "--", str(watched)], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["sampling"]["steps"] == 8, done.stderr  # one report, of the parent
    for line in plain.stdout.splitlines():
        assert line in done.stderr
    ours, theirs = torch.load(watched), torch.load(bare)
    flat = [ours, theirs] if isinstance(ours, dict) else [ours[0], theirs[0]]
    assert all(torch.equal(flat[0][name], flat[1][name]) for name in flat[0])


@pytest.mark.slow
def test_a_program_may_be_the_first_to_import_torch(write) -> None:
    program = write("loader = DataLoader(Augmented(), batch_size=B)\n" + LOOP)
    code = (
        "import sys\nfrom dpaudit.instrument.script import Program, record_script\n"
        f"assert 'torch' not in sys.modules\nprint(record_script(Program({program.name!r})).steps)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "32\n"


def test_a_new_data_set_object_for_each_epoch_is_taken_for_the_same(write) -> None:
    text = """
for epoch in range(3):
    loader = DataLoader(TensorDataset(torch.rand(N, 2), torch.zeros(N, dtype=int)), batch_size=B)
    for batch in loader:
        train(batch)
"""
    run = record_script(write(text))
    assert batches(run) == np.arange(40).reshape(8, 5).tolist() * 3
    assert any("made the data set object anew 2 times" in note for note in run.main.recording.notes)


def test_nothing_of_a_program_stays_behind(write) -> None:
    record_script(write(SAME["persistent workers"]))
    assert not multiprocessing.active_children()
    assert "next_to_it" not in sys.modules


def test_a_step_without_backward_over_an_empty_batch_is_an_empty_step(write: Callable[..., Program]) -> None:
    program = write(
        "data = TensorDataset(torch.rand(N, 2), torch.arange(N) % 2)\n"
        "drawn = [[0, 1], [], [2], [], [], [3, 4]]\n"
        "for batch in DataLoader(data, batch_sampler=drawn, collate_fn=list):\n"
        "    optimizer.zero_grad()\n"
        "    if batch:\n"
        "        model(torch.stack([x for x, _ in batch])).sum().backward()\n"
        "    for weight in model.parameters():\n"
        "        weight.grad = torch.randn_like(weight)\n"
        "    optimizer.step()\n"
    )
    run = record_script(program)
    assert batches(run) == [[0, 1], [], [2], [], [], [3, 4]]
    assert run.main.step_numbers.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_look_at_the_training_set_in_the_middle_of_an_epoch_stays_out(
    write: Callable[..., Program],
) -> None:
    text = """
loader = DataLoader(Augmented(), batch_size=B, shuffle=True)
for number, batch in enumerate(loader):
    train(batch)
    if number % 3 == 0:
        for x, y in DataLoader(loader.dataset, batch_size=8):
            model(x)
"""
    program = write(text)
    assert batches(record_script(program)) == namespace(program)["seen"]


def test_records_that_are_stated_stand_beside_gradients_that_are_seen(write: Callable[..., Program]) -> None:
    text = """
import dpaudit
for step in range(12):
    drawn = torch.nonzero(torch.rand(N) < 0.2).flatten().tolist()
    seen.append(drawn)
    (model.weight.sum() * len(drawn)).backward()
    optimizer.step()
    dpaudit.step(drawn, num_records=N)
"""
    program = write(text)
    assert batches(record_script(program)) == namespace(program)["seen"]


SCALED = """
loader = DataLoader(TensorDataset(torch.arange(float(N))[:, None]), batch_size=B, shuffle=True)
model = torch.nn.Linear(1, 1)
{optimizer}
scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
for epoch in range(4):
    for number, (x,) in enumerate(loader):
        optimizer.zero_grad()
        loss = model(x).sum()
        if 7.0 in x.view(-1).tolist():
            loss = loss * float("inf")
        else:
            seen.append([int(v) for v in x[:, 0]])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
keep_for_test.append(seen)
"""


@pytest.mark.parametrize("fused", [False, True])
def test_batches_of_steps_that_a_gradient_scaler_skips_are_in_no_step(
    write, monkeypatch, tmp_path: Path, fused: bool
) -> None:
    made = f"optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, fused={fused})"
    for stream in (None, tmp_path / "kept"):
        kept: list = []
        monkeypatch.setattr("builtins.keep_for_test", kept, raising=False)
        run = record_script(write(SCALED.replace("{optimizer}", made)), stream=stream)
        assert batches(run) == kept[0]
        assert len(kept[0]) == 28
        assert "skipped 4 steps" in run.doubt
        assert any("a gradient scaler skipped 4 steps" in note for note in run.main.recording.notes)


def test_after_an_unreadable_batch_the_ones_before_it_do_not_come_again(write) -> None:
    run = record_script(
        write(
            "import dpaudit\n"
            "for k in range(30):\n"
            "    dpaudit.step(np.array([k, k + 1] if k < 20 else ['?']), num_records=N)\n"
        )
    )
    assert run.main.recording.trace.steps == 20
    assert any("cannot be followed" in note for note in run.notes)


def test_no_value_is_asked_for_while_a_cuda_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice:
        is_cuda = True

        def item(self) -> float:
            return 1.0

    for captured in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda captured=captured: captured)
        assert _found_inf(OnDevice()) is not captured
    assert _found_inf(torch.tensor(1.0))


SWEPT = """
models = [torch.nn.Linear(1, 1) for _ in range(3)]
made = [torch.optim.SGD(one.parameters(), lr=0.1) for one in models]
dataset = TensorDataset(torch.arange(float(N))[:, None])
for model, optimizer in zip(models, made):
    for epoch in range(2):
        for (x,) in DataLoader(dataset, batch_size=B, shuffle=True):
            seen.append([int(v) for v in x[:, 0]])
            model(x).sum().backward()
            optimizer.step()
"""


@pytest.mark.parametrize("streamed", [False, True])
def test_trainings_one_after_the_other_are_told_apart(write, tmp_path: Path, streamed: bool) -> None:
    program = write(SWEPT)
    run = record_script(program, stream=tmp_path / "kept" if streamed else None)
    told = [[sorted(batch.tolist()) for batch in one.recording.trace.batches()] for one in run.traces]
    made = [sorted(batch) for batch in namespace(program)["seen"]]
    assert [batch for training in told for batch in training] == made
    assert [one.batches for one in run.traces] == [len(made) // 3] * 3


ACCOUNTED = """
import dp_accounting
for steps in {steps}:
    event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.0))
    dp_accounting.rdp.RdpAccountant().compose(event, steps).get_epsilon(1e-5)
"""


def test_accounts_of_several_trainings_are_only_taken_if_they_are_the_same(write) -> None:
    pytest.importorskip("dp_accounting")
    same = record_script(write(SWEPT + ACCOUNTED.replace("{steps}", "[16, 16, 16]")))
    assert same.claim.unread == ()
    assert len(same.claim.stated) == 3
    other = record_script(write(SWEPT + ACCOUNTED.replace("{steps}", "[16, 8]")))
    assert other.claim.stated == ()
    assert "several trainings" in other.claim.unread[0]
