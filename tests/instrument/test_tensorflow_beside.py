"""TensorFlow beside torch in one program, and trainings of Keras that come in parts."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpaudit.instrument.script import Program, ScriptRun, record_script
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.executions import _of_session
from dpaudit.instrument.script.keras_patches import KerasPatches
from dpaudit.instrument.script.launch import run_program
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.seeding import restored

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras", minversion="3")
if importlib.util.find_spec("triton"):
    pytest.skip("TensorFlow and Triton crash each other in one process", allow_module_level=True)

SETUP = """
import keras, numpy as np, tensorflow as tf, torch
from torch.utils.data import DataLoader, TensorDataset
import dpaudit
keras.utils.set_random_seed(0)
torch.manual_seed(0)
N, B = 60, 6
inputs = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
inputs[:, 0] = np.arange(N)
labels = (inputs[:, :1] > 30).astype("float32")
teacher = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
loss = keras.losses.MeanSquaredError()
student = torch.nn.Linear(3, 1)
torch_optimizer = torch.optim.SGD(student.parameters(), lr=1e-4)
optimizer = keras.optimizers.SGD(1e-4)
shuffled = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(N).batch(B)
loader = DataLoader(TensorDataset(torch.tensor(inputs), torch.tensor(labels)), batch_size=B, shuffle=True)
seen = []

def generate(steps=12):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        mask = rng.random(N) < 0.1
        yield inputs[mask], labels[mask]

signature = tf.TensorSpec((None, 3)), tf.TensorSpec((None, 1))

def note(x):
    seen.append(sorted(int(one) for one in np.asarray(x)[:, 0]))

def in_torch(x, y):
    torch_optimizer.zero_grad()
    (student(torch.as_tensor(np.array(x))) - torch.as_tensor(np.array(y))).square().mean().backward()
    torch_optimizer.step()

def in_tf(x, y):
    with tf.GradientTape() as tape:
        value = loss(y, teacher(x))
    weights = teacher.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(value, weights), weights))
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Program]:
    def written(text: str) -> Program:
        (tmp_path / "train.py").write_text(SETUP + text)
        return Program(str(tmp_path / "train.py"))

    return written


def meetings(batches: list[list[int]]) -> list[int]:
    """Give what does not depend on how records are numbered."""
    sets = [set(batch) for batch in batches]
    return [len(batch) for batch in batches] + [len(one & other) for one in sets for other in sets]


def recorded(program: Program) -> tuple[ScriptRun, list[list[int]], list[list[int]]]:
    """Give the run, its batches, and what the program itself has seen, in another run."""
    run = record_script(program, strict=True)
    seen = vars(run_program(program)[1])["seen"]
    return run, [batch.tolist() for batch in run.main.recording.trace.batches()], seen


EPOCHS = "for _ in range(3):\n    for x, y in {}:\n        note(x)\n        "
BESIDE = {
    "tf.data into torch": EPOCHS.format("shuffled") + "in_torch(x, y)\n",
    "numpy of tf.data into torch": EPOCHS.format("shuffled.as_numpy_iterator()") + "in_torch(x, y)\n",
    "torch's loader into TensorFlow": EPOCHS.format("loader") + "in_tf(x.numpy(), y.numpy())\n",
    "a teacher of Keras, then torch": "teacher.compile(optimizer, loss)\n"
    "teacher.fit(inputs, labels, batch_size=B, verbose=0)\n"
    + EPOCHS.format("loader")
    + "in_torch(x, teacher.predict_on_batch(x.numpy()))\n",
    "train_on_batch, then torch": "teacher.compile(optimizer, loss)\n"
    "for x, y in loader:\n    teacher.train_on_batch(x.numpy(), y.numpy())\n"
    + EPOCHS.format("loader")
    + "in_torch(x, y)\n",
    "records that are stated": EPOCHS.format("shuffled")
    + "in_torch(x, y); in_tf(x, y); dpaudit.step(x.numpy()[:, 0].astype(int), num_records=N)\n",
    "steps that are marked": EPOCHS.format("shuffled") + "in_torch(x, y); dpaudit.step()\n",
}


@pytest.mark.parametrize("name", BESIDE)
def test_the_trace_is_what_the_training_saw(write, name: str) -> None:
    run, batches, seen = recorded(write(BESIDE[name]))
    assert run.unjudgeable == ""
    assert run.doubt == ""
    assert meetings(batches) == meetings(seen)


PARTS = {
    "compiled anew each epoch": (
        "for _ in range(4):\n    teacher.compile(keras.optimizers.SGD(1e-4), loss)\n"
        "    teacher.fit(inputs, labels, batch_size=B, verbose=0)\n"
    ),
    "a generator made anew each epoch": (
        "teacher.compile(optimizer, loss)\n"
        "for _ in range(4):\n"
        "    drawn = tf.data.Dataset.from_generator(generate, output_signature=signature)\n"
        "    teacher.fit(drawn, verbose=0)\n"
    ),
    "another batch size": (
        "teacher.compile(optimizer, loss)\n"
        "for size in (5, 6):\n    teacher.fit(inputs, labels, batch_size=size, verbose=0)\n"
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_training_is_doubted(write, name: str) -> None:
    assert "on the same data set" in record_script(write(PARTS[name]), strict=True).doubt


def test_nothing_of_a_session_is_kept_where_keras_runs_without_tensorflow() -> None:
    session = Session()
    KerasPatches(session, ClaimLog(lambda: 0)).remove()
    assert session not in _of_session
