"""Programs of TensorFlow under the recorder: the same results, and each step has its batch, or no verdict."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dpaudit.audit.script import audit_script
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import DpauditError, TargetError, TraceError
from dpaudit.instrument.script import How, Program, ScriptRun, record_script
from dpaudit.instrument.script.launch import run_program
from dpaudit.instrument.script.spooled import recovered
from dpaudit.instrument.seeding import restored
from dpaudit.provenance import collect
from dpaudit.verdict import Outcome

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras", minversion="3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SETUP = """
import keras, numpy as np, tensorflow as tf
keras.utils.set_random_seed(0)
N, B = 60, 6
inputs = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
inputs[:, 0] = np.arange(N)
labels = (inputs[:, :1] > 30).astype("float32")
model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
optimizer, loss = keras.optimizers.Adam(0.01), keras.losses.MeanSquaredError()
seen = []

def note(x):
    seen.append(sorted(int(one) for one in np.asarray(x)[:, 0]))

def compiled(**options):
    model.compile(optimizer, loss, **options)
    return model

def step(x, y):
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True))
    optimizer.apply_gradients(zip(tape.gradient(value, model.trainable_variables), model.trainable_variables))
    return value

def generate(steps=12):
    rng = np.random.default_rng(0)
    for _ in range(steps):
        mask = rng.random(N) < 0.03
        yield inputs[mask], labels[mask]

function = tf.function(step, reduce_retracing=True)
records = tf.data.Dataset.from_tensor_slices((inputs, labels))
shuffled = records.shuffle(N, seed=1).batch(B)
signature = tf.TensorSpec((None, 3)), tf.TensorSpec((None, 1))
drawn = tf.data.Dataset.from_generator(generate, output_signature=signature)
"""
LOOP = "for x, y in shuffled:\n    note(x)\n    {}(x, y)\n"


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


def alone(program: Program) -> dict:
    ending, module = run_program(program)
    assert ending.how is How.FINISHED, ending.traceback
    return vars(module)


def contents(program: Program, **options: object) -> tuple[ScriptRun, list[list[int]]]:
    """Give the batches of each step as record numbers are: by appearance, each batch sorted."""
    run = record_script(program, strict=True, **options)
    return run, [sorted(batch.tolist()) for batch in run.main.recording.trace.batches()]


def by_appearance(batches: list[list[int]]) -> list[int]:
    """Give what does not depend on how records are numbered: sizes, and how often each two batches meet."""
    sets = [set(batch) for batch in batches]
    return [len(batch) for batch in batches] + [len(one & other) for one in sets for other in sets]


SAME = {
    "a loop": LOOP.format("step"),
    "a function": LOOP.format("function"),
    "a function that XLA compiles": (
        "function = tf.function(step, jit_compile=True)\n" + LOOP.format("function")
    ),
    "several epochs": "for epoch in range(3):\n    " + LOOP.format("function").replace("\n", "\n    ") + "\n",
    "ragged batches, empty ones among them": (
        "for x, y in drawn:\n    note(x)\n    if len(x):\n        step(x, y)\n"
        "    else:\n        optimizer.apply_gradients((w * 0, w) for w in model.trainable_variables)\n"
    ),
    "an iterator that a function reads": (
        "@tf.function\n"
        "def one(iterator):\n    x, y = next(iterator)\n    step(x, y)\n    return x\n"
        "batches = iter(shuffled)\n"
        "for _ in range(N // B):\n    note(one(batches))\n"
    ),
    "a function that fetches": (
        "@tf.function\n"
        "def fetch(iterator):\n    return next(iterator)\n"
        "batches = iter(shuffled)\n"
        "for _ in range(N // B):\n    x, y = fetch(batches)\n    note(x)\n    function(x, y)\n"
        "model.predict(inputs, verbose=0)\n"
    ),
    "validation beside it": (
        "other = records.batch(B)\n"
        "kept = iter(other.repeat())\n"
        "for number, (x, y) in enumerate(shuffled):\n"
        "    note(x)\n    function(x, y)\n"
        "    if number % 3 == 0:\n"
        "        for a, b in other:\n            model(a)\n"
    ),
    "a step at every second batch": (
        "total = None\n"
        "for number, (x, y) in enumerate(shuffled):\n"
        "    with tf.GradientTape() as tape:\n        value = loss(y, model(x))\n"
        "    part = tape.gradient(value, model.trainable_variables)\n"
        "    if number % 2:\n"
        "        note(np.concatenate([before, x]))\n"
        "        optimizer.apply_gradients(zip([*map(tf.add, total, part)], model.trainable_variables))\n"
        "    before, total = x, part\n"
    ),
    "an optimizer that accumulates": (
        "optimizer = keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)\n"
        "for number, (x, y) in enumerate(shuffled):\n"
        "    step(x, y)\n"
        "    if number % 2:\n        note(np.concatenate([before, x]))\n"
        "    before = x\n"
    ),
    "fit, one record after the other": (
        "compiled().fit(inputs, labels, batch_size=B, epochs=2, shuffle=False, verbose=0)\n"
        "for _ in range(2):\n    for start in range(0, N, B):\n        note(inputs[start:start + B])\n"
    ),
    "fit, not compiled": (
        "compiled(run_eagerly=True).fit(inputs, labels, batch_size=B, shuffle=False, verbose=0)\n"
        "for start in range(0, N, B):\n    note(inputs[start:start + B])\n"
    ),
    "fit with validation and more": (
        "compiled().fit(records.batch(B), epochs=2, verbose=0, validation_data=records.batch(B))\n"
        "model.evaluate(inputs, labels, verbose=0)\n"
        "model.predict(inputs, verbose=0)\n"
        "for _ in range(2):\n    for start in range(0, N, B):\n        note(inputs[start:start + B])\n"
    ),
    "fit over a generator": "compiled().fit(drawn, verbose=0)\nfor x, y in generate():\n    note(x)\n",
    "train_on_batch": "compiled()\nfor x, y in generate():\n    note(x)\n    model.train_on_batch(x, y)\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_program_computes_the_same_and_the_trace_is_what_it_saw(write, name: str) -> None:
    text = SAME[name] + "result = b''.join(np.asarray(w).tobytes() for w in model.weights)\n"
    without = alone(write(text))
    kept = "import pathlib; pathlib.Path(__file__).with_suffix('.bin').write_bytes(result)\n"
    program = write(text + kept)
    run, batches = contents(program)
    assert Path(program.name).with_suffix(".bin").read_bytes() == without["result"]
    assert run.unjudgeable == ""
    assert by_appearance(batches) == by_appearance(without["seen"])
    assert run.steps == len(batches)


REFUSED = {
    "a batch in parts": (
        "for x, y in shuffled:\n    step(x[:3], y[:3])\n    step(x[3:], y[3:])\n",
        "more than one step",
    ),
    "a batch that is thrown away": (
        "for number, (x, y) in enumerate(shuffled):\n"
        "    with tf.GradientTape() as tape:\n        value = loss(y, model(x))\n"
        "    part = tape.gradient(value, model.trainable_variables)\n"
        "    if number % 3:\n        optimizer.apply_gradients(zip(part, model.trainable_variables))\n",
        "summed or thrown away",
    ),
    "two iterators over one data set": (
        "for (x, y), (a, b) in zip(shuffled, shuffled):\n"
        "    step(tf.concat([x, a], 0), tf.concat([y, b], 0))\n",
        "several iterators",
    ),
    "rows of other shapes": (
        "for x, y in shuffled:\n    step(x, y)\n"
        "for x, y in records.map(lambda x, y: (tf.concat([x, x], 0)[:3 + tf.cast(x[0] % 2, tf.int32)], y))"
        ".padded_batch(B):\n    step(x[:, :3], y)\n",
        "another shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_gets_no_verdict(write, name: str) -> None:
    text, why = REFUSED[name]
    run = record_script(write(text), strict=True)
    assert why in run.unjudgeable
    report = audit_script(run, PrivacyClaim(), provenance=collect(command=[]))
    assert report.verdict.outcome is Outcome.INCONCLUSIVE


UNSEEN = {
    "several steps in one call": "compiled(steps_per_execution=2).fit(shuffled, verbose=0)\n",
    "a loop inside a function": (
        "@tf.function\ndef epoch():\n    for x, y in shuffled:\n        step(x, y)\nepoch()\n"
    ),
    "several batches of an iterator": (
        "@tf.function\ndef some(batches):\n    for _ in tf.range(5):\n        step(*next(batches))\n"
        "some(iter(shuffled))\n"
    ),
    "an iterator inside a function": (
        "@tf.function\ndef one():\n    x, y = next(iter(shuffled))\n    step(x, y)\none()\n"
    ),
    "elements that may be no batches": "for x, y in records:\n    step(x[None], y[None])\n",
    "ragged rows": (
        "for x, y in shuffled.map(lambda x, y: (tf.RaggedTensor.from_tensor(x), y)):\n"
        "    step(x.to_tensor(), y)\n"
    ),
    "replicas": (
        "with tf.distribute.MirroredStrategy(['cpu:0']).scope():\n"
        "    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])\n"
        "    model.compile('sgd', loss)\n"
        "model.fit(shuffled, verbose=0)\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSEEN)
def test_steps_that_cannot_be_followed_are_refused_with_what_to_do(write, name: str) -> None:
    with pytest.raises(TargetError) as caught:
        record_script(write(UNSEEN[name]), strict=True)
    assert "dpaudit.step(records)" in caught.value.hint


def test_records_that_the_program_states_are_judged_where_nothing_else_can_be(write) -> None:
    text = (
        "import dpaudit\n"
        "for x, y in shuffled:\n"
        "    for half in (slice(0, 3), slice(3, 6)):\n"
        "        step(x[half], y[half])\n"
        "        dpaudit.step(x.numpy()[half, 0].astype(int), num_records=N)\n"
    )
    run, batches = contents(write(text))
    assert run.unjudgeable == ""
    assert [len(batch) for batch in batches] == [3] * 20


def test_a_failure_of_the_recording_does_not_end_the_training(write, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(columns: object) -> list[int]:
        calls.append(columns)
        if len(calls) % 6 == 0:
            raise RuntimeError("broken")
        return [*range(6)]

    monkeypatch.setattr("dpaudit.instrument.script.executions.row_marks", broken)
    program = write(
        "compiled().fit(inputs, labels, batch_size=B, verbose=0)\nassert optimizer.iterations == 10\n"
    )
    run = record_script(program)
    assert run.ending.how is How.FINISHED, run.ending.traceback
    assert any("recording failed" in note and "broken" in note for note in run.notes)
    with pytest.raises(DpauditError, match="broken"):
        record_script(program, strict=True)


def test_a_program_is_stopped_after_the_wanted_steps(write) -> None:
    run = record_script(write("compiled().fit(shuffled.repeat(), steps_per_epoch=100, verbose=0)\n"), steps=7)
    assert run.steps == 7


def test_everything_is_put_back(write) -> None:
    import tensorflow as tf

    record_script(write(LOOP.format("step")))
    assert "dpaudit" not in tf.GradientTape.gradient.__code__.co_filename
    assert not hasattr(tf.GradientTape.gradient, "__wrapped__")
    assert not hasattr(keras.optimizers.Adam.apply, "__wrapped__")


def test_equal_records_are_held_against_nobody(write) -> None:
    text = (
        "import dp_accounting\n"
        "from dp_accounting import rdp\n"
        "inputs[1::2] = inputs[::2]\n"
        "def generate():\n"
        "    rng = np.random.default_rng(0)\n"
        "    for _ in range(400):\n"
        "        mask = rng.random(N) < 0.1\n        yield inputs[mask], labels[mask]\n"
        "drawn = tf.data.Dataset.from_generator(generate, output_signature=signature)\n"
        "compiled().fit(drawn, verbose=0)\n"
        "event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.0))\n"
        "rdp.RdpAccountant().compose(event, 400).get_epsilon(1e-5)\n"
    )
    run = record_script(write(text), strict=True)
    report = audit_script(run, PrivacyClaim(), provenance=collect(command=[]))
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert "content" in report.verdict.reasons[0].sentence


def test_a_recording_on_disk_is_the_same(write, tmp_path: Path) -> None:
    program = write("compiled().fit(inputs, labels, batch_size=B, epochs=2, verbose=0)\n")
    _, batches = contents(program, stream=tmp_path / "trace")
    assert by_appearance(batches) == by_appearance(contents(program)[1])


def test_a_recording_that_was_killed_is_not_judged(write, tmp_path: Path) -> None:
    whole, copy = tmp_path / "trace", tmp_path / "copy"
    text = (
        "for _ in range(500):\n    for x, y in shuffled:\n        function(x, y)\n"
        f"import shutil\nshutil.copytree({str(whole)!r}, {str(copy)!r})\n"
    )
    contents(write(text), stream=whole)
    with pytest.raises(TraceError, match="of batches of TensorFlow has no end"):
        recovered(copy)


def test_numpy_batches_without_a_data_set_are_named(write) -> None:
    text = "for x, y in generate():\n    function(x, y)\n"
    with pytest.raises(TargetError, match="no batch that could be followed"):
        record_script(write(text), strict=True)


def test_strings_are_told_by_their_content(write) -> None:
    text = (
        "names = tf.data.Dataset.from_tensor_slices([str(i) for i in range(N)])\n"
        "for name, (x, y) in tf.data.Dataset.zip((names, records)).batch(B):\n    note(x)\n    step(x, y)\n"
    )
    _, batches = contents(write(text))
    assert batches == np.arange(60).reshape(10, 6).tolist()
