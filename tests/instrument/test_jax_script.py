"""Programs of JAX under the recorder: they compute the same as without, and each step has its batches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dpaudit.errors import TargetError
from dpaudit.instrument.script import How, Program, ScriptRun, record_script
from dpaudit.instrument.script.launch import run_program
from dpaudit.instrument.seeding import restored

pytest.importorskip("jax_privacy")
SETUP = """
import jax, jax.numpy as jnp, numpy as np, optax, jax_privacy
from jax_privacy import batch_selection, noise_addition
N, T = 60, 12
data = jnp.asarray(np.random.default_rng(0).normal(size=(N, 3)), jnp.float32)
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=0.1, iterations=T)
noise = noise_addition.gaussian_privatizer(stddev=1.0, prng_key=jax.random.key(1))
loss = lambda w, x: jnp.mean(jnp.sin(x @ w) ** 2)
grads = jax_privacy.clipped_grad(loss, l2_clip_norm=1.0, batch_argnums=1)
optimizer = optax.adam(0.1)
weights = jnp.ones(3)
state = noise.init(weights), optimizer.init(weights)
seen = []

def update(weights, state, x, padding):
    clipped = grads(weights, x, is_padding_example=padding)
    noisy, first = noise.update(sum_of_clipped_grads=clipped, noise_state=state[0])
    updates, second = optimizer.update(noisy, state[1])
    return optax.apply_updates(weights, updates), (first, second)

compiled = jax.jit(update)

def train(drawn, how=None):
    global weights, state
    seen.append(sorted(drawn.tolist()))
    padded = batch_selection.pad_to_multiple_of(drawn, 4)
    weights, state = (how or compiled)(weights, state, data[padded], padded == -1)

batches = strategy.batch_iterator(N, rng=0)
"""
LOOP = "for drawn in batches:\n    train(drawn)\n"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored():
        yield


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Program]:
    def written(text: str) -> Program:
        (tmp_path / "train.py").write_text(SETUP + text)
        return Program(str(tmp_path / "train.py"))

    return written


def recorded(program: Program, **options: object) -> tuple[ScriptRun, list[list[int]]]:
    run = record_script(program, strict=True, **options)
    return run, [sorted(batch.tolist()) for batch in run.main.recording.trace.batches()]


def alone(program: Program) -> dict:
    ending, module = run_program(program)
    assert ending.how is How.FINISHED, ending.traceback
    return vars(module)


SAME = {
    "compiled": LOOP,
    "not compiled": "for drawn in batches:\n    train(drawn, update)\n",
    "compiled ahead of time": (
        "ready = compiled.lower(weights, state, data[:16], jnp.zeros(16, bool)).compile()\n"
        "def train(drawn):\n"
        "    global weights, state\n"
        "    seen.append(sorted(drawn.tolist()))\n"
        "    padded = batch_selection.pad_to_multiple_of(drawn, 16)\n"
        "    weights, state = ready(weights, state, data[padded], padded == -1)\n" + LOOP
    ),
    "a look ahead": (
        "held = next(batches)\n"
        "for drawn in batches:\n    train(held)\n    held = drawn\n"
        "train(held)\n"
    ),
    "minibatches of one batch": (
        "one = jax.jit(lambda w, x, p: grads(w, x, is_padding_example=p))\n"
        "for drawn in batches:\n"
        "    seen.append(sorted(drawn.tolist()))\n"
        "    total = jnp.zeros(3)\n"
        "    for part in batch_selection.split_and_pad_global_batch(drawn, 4):\n"
        "        total += one(weights, data[part], part == -1)\n"
        "    noisy, first = noise.update(total, state[0])\n"
        "    updates, second = optimizer.update(noisy, state[1])\n"
        "    weights, state = optax.apply_updates(weights, updates), (first, second)\n"
    ),
    "a new iterator each epoch": (
        "for epoch in range(3):\n"
        "    for drawn in strategy.batch_iterator(N, rng=epoch):\n        train(drawn)\n"
    ),
    "a strategy of one's own": (
        "class Halves(batch_selection.BatchSelectionStrategy):\n"
        "    def batch_iterator(self, num_examples, rng=None):\n"
        "        for batch in strategy.batch_iterator(num_examples, rng):\n"
        "            yield batch[::2]\n"
        "for drawn in Halves().batch_iterator(N, rng=0):\n    train(drawn)\n"
    ),
    "validation beside it": (
        "for number, drawn in enumerate(batches):\n"
        "    train(drawn)\n"
        "    if number % 4 == 0:\n"
        "        for other in batch_selection.FixedBatchSampling(5, 2).batch_iterator(N, rng=1):\n"
        "            jnp.sin(data[other] @ weights).block_until_ready()\n"
    ),
    "updates by optax alone": (
        "def update(weights, state, x, padding):\n"
        "    clipped = grads(weights, x, is_padding_example=padding)\n"
        "    clipped += jax.random.normal(jax.random.key(x.shape[0]), (3,))\n"
        "    updates, second = optimizer.update(clipped, state[1])\n"
        "    return optax.apply_updates(weights, updates), (state[0], second)\n"
        "compiled = jax.jit(update)\n" + LOOP
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_program_computes_the_same_and_the_trace_is_what_it_saw(write, name: str) -> None:
    text = SAME[name] + "result = np.asarray(weights).tobytes()\n"
    without = alone(write(text))
    kept = "import pathlib; pathlib.Path(__file__).with_suffix('.bin').write_bytes(result)\n"
    program = write(text + kept)
    run, batches = recorded(program)
    assert Path(program.name).with_suffix(".bin").read_bytes() == without["result"]
    assert batches == without["seen"]
    assert run.unjudgeable == ""
    assert run.steps == len(batches)
    assert run.main.recording.trace.num_records == 60


def test_a_step_that_is_left_out_in_compiled_code_leaves_its_batch_out(write) -> None:
    text = """
@jax.jit
def compiled(weights, state, x, padding):
    none = lambda: (weights, state)
    return jax.lax.cond((~padding).sum() > 5, lambda: update(weights, state, x, padding), none)
"""
    program = write(text + LOOP)
    wanted = [batch for batch in alone(program)["seen"] if len(batch) > 5]
    assert 0 < len(wanted) < 12
    run, batches = recorded(program)
    assert batches == wanted
    assert any("taken to be left out" in note for note in run.main.recording.notes)


def test_steps_in_a_compiled_loop_have_their_batches_in_turn(write) -> None:
    text = """
@jax.jit
def several(weights, state, x, padding):
    def body(carried, part):
        return update(*carried, *part), None
    return jax.lax.scan(body, (weights, state), (x, padding))[0]

for group in zip(*[batches] * 4):
    seen += [sorted(drawn.tolist()) for drawn in group]
    padded = np.stack([batch_selection.pad_to_multiple_of(drawn, 20)[:20] for drawn in group])
    weights, state = several(weights, state, data[padded], padded == -1)
"""
    program = write(text)
    assert recorded(program)[1] == alone(program)["seen"]


def test_batches_that_were_all_fetched_and_kept_are_refused(write) -> None:
    with pytest.raises(TargetError, match="batches were kept"):
        record_script(write("for drawn in list(batches):\n    train(drawn)\n"))


def test_joined_batches_are_joined(write) -> None:
    program = write("for a, b in zip(batches, batches):\n    train(np.concatenate([a, b]))\n")
    run, batches = recorded(program)
    assert batches == alone(program)["seen"]
    assert (run.steps, run.unjudgeable) == (6, "")


def test_it_stops_after_the_wanted_steps(write) -> None:
    run, batches = recorded(write(LOOP), steps=5)
    assert (run.ending.how, len(batches), run.steps) == (How.STOPPED, 5, 5)


def test_steps_that_the_program_marks_come_before_others(write) -> None:
    program = write("import dpaudit\nfor drawn in batches:\n    train(drawn)\n    dpaudit.step()\n")
    run, batches = recorded(program)
    assert run.main.optimizer == "dpaudit.step()"
    assert batches == alone(program)["seen"]


def test_marked_steps_join_the_batches_since_the_last(write) -> None:
    text = "import dpaudit\nfor a, b in zip(batches, batches):\n    dpaudit.step()\n"
    assert len(recorded(write(text))[1]) == 6


def test_records_that_the_program_states_come_before_what_was_handed_out(write) -> None:
    text = "import dpaudit\nfor drawn in batches:\n    part = drawn[:3]\n    train(part)\n"
    text += "    dpaudit.step(part, num_records=N)\n"
    program = write(text)
    run, batches = recorded(program)
    assert batches == alone(program)["seen"]
    assert run.main.recording.facts.loader == "dpaudit.step"


UNCLEAR = {
    "cut": ("for drawn in batches:\n    train(drawn[:3])\n", "another number of records"),
    "padding that is not said": (
        "for drawn in batches:\n    x = data[batch_selection.pad_to_multiple_of(drawn, 20)]\n"
        "    weights, state = compiled(weights, state, x, None)\n",
        "is_padding_example",
    ),
    "twice": ("for drawn in batches:\n    train(drawn)\n    train(drawn)\n", "more than one step"),
    "accumulated": (
        "optimizer = optax.MultiSteps(optimizer, 2)\nstate = noise.init(weights), optimizer.init(weights)\n"
        "def update(weights, state, x, padding):\n"
        "    clipped = grads(weights, x, is_padding_example=padding)\n"
        "    updates, second = optimizer.update(clipped, state[1], weights)\n"
        "    return optax.apply_updates(weights, updates), (state[0], second)\n"
        "compiled = jax.jit(update)\n" + LOOP,
        "optax.MultiSteps",
    ),
    "correlated noise": (
        "from jax_privacy.matrix_factorization import toeplitz\n"
        "matrix = toeplitz.inverse_as_streaming_matrix([1.0, 0.5])\n"
        "noise = noise_addition.matrix_factorization_privatizer(matrix, stddev=1.0, prng_key=1)\n"
        "state = noise.init(weights), optimizer.init(weights)\n" + LOOP,
        "correlated between steps",
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_cannot_be_told_is_not_judged(write, name: str) -> None:
    text, said = UNCLEAR[name]
    assert said in recorded(write(text))[0].unjudgeable


def test_noise_of_a_matrix_without_correlation_is_judged(write) -> None:
    text = (
        "noise = noise_addition.matrix_factorization_privatizer(jnp.eye(T), stddev=1.0, prng_key=1)\n"
        "state = noise.init(weights), optimizer.init(weights)\n" + LOOP
    )
    assert recorded(write(text))[0].unjudgeable == ""


def test_two_models_have_traces_of_their_own(write) -> None:
    text = """
other, rest = {"a": jnp.ones(3)}, optimizer.init({"a": jnp.ones(3)})
for number, drawn in enumerate(batches):
    train(drawn)
    if number % 2:
        noisy, _ = noise.update({"a": jnp.ones(3)}, noise.init(other))
        other = optax.apply_updates(other, noisy)
"""
    run, batches = recorded(write(text))
    assert (run.unjudgeable, len(batches)) == ("", 12)
    assert sorted(len(one.step_numbers) for one in run.traces) == [6, 6, 12, 12]


def test_a_program_without_steps_that_are_seen_is_told_to_mark_them(write) -> None:
    with pytest.raises(TargetError, match="12 batches of known loaders were handed out") as caught:
        record_script(write("for drawn in batches:\n    weights = weights + data[drawn].sum()\n"))
    assert "dpaudit.step()" in caught.value.hint


def test_users_are_the_records_where_users_are_drawn(write) -> None:
    text = (
        "users = np.arange(N) // 3\n"
        "strategy = batch_selection.UserSelectionStrategy(strategy, 2)\n"
        "for rows in strategy.batch_iterator(users, rng=0):\n"
        "    seen.append(sorted((rows[:, 0] // 3).tolist()) if len(rows) else [])\n"
        "    flat = rows.reshape(len(rows), -1)[:, 0] if len(rows) else np.zeros(0, int)\n"
        "    weights, state = compiled(weights, state, data[flat], None)\n"
    )
    program = write(text)
    run, batches = recorded(program)
    assert run.main.recording.trace.num_records == 20
    assert batches == alone(program)["seen"]


def test_several_devices_are_refused_by_name(write, tmp_path: Path) -> None:
    program = write(LOOP)
    code = (
        "from dpaudit.instrument.script import Program, record_script\n"
        f"record_script(Program({program.name!r}))\n"
    )
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )
    assert "on several devices cannot be counted" in ran.stderr


def test_patches_are_gone_afterwards(write) -> None:
    import optax
    from jax_privacy import batch_selection, clipping, noise_addition

    def parts() -> list[object]:
        return [
            optax.apply_updates,
            vars(optax.MultiSteps)["__init__"],
            noise_addition.gaussian_privatizer,
            clipping.clipped_fun,
            vars(batch_selection.CyclicPoissonSampling)["batch_iterator"],
            vars(optax.GradientTransformation)["init"],
            "__init_subclass__" in vars(batch_selection.BatchSelectionStrategy),
        ]

    before = parts()
    record_script(write(LOOP))
    assert parts() == before


def test_our_failure_does_not_kill_the_training(write, monkeypatch, capsys) -> None:
    from dpaudit.instrument.script.late_steps import LateSteps

    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(LateSteps, "take_in", broken)
    program = write(LOOP + "print(len(seen))\n")
    with pytest.raises(TargetError):
        record_script(program)
    assert "12\n" in capsys.readouterr().out


def test_an_error_of_compiled_code_is_the_programs_own(write) -> None:
    text = """
def fail(x):
    raise ValueError("a bad value")
@jax.jit
def compiled(weights, state, x, padding):
    weights, state = update(weights, state, x, padding)
    return jax.pure_callback(fail, jax.ShapeDtypeStruct((3,), jnp.float32), weights), state
for drawn in batches:
    train(drawn)
    weights.block_until_ready()
"""
    run = record_script(write(text))
    assert run.ending.how is How.FAILED
    assert "a bad value" in run.ending.message


def test_counts_of_the_records_are_compared(write) -> None:
    run, batches = recorded(write(LOOP))
    assert any("as many records were clipped" in note for note in run.notes)
    assert np.array_equal(run.main.recording.trace.batch_sizes, [len(batch) for batch in batches])


def test_a_plan_and_searches_for_noise_are_claims(write) -> None:
    text = """
import dp_accounting
from jax_privacy import accounting
from jax_privacy.experimental.execution_plan import BandMFExecutionPlanConfig
accountant = accounting.DpsgdTrainingAccountant(accounting.RdpAccountantConfig())
found = accounting.calibrate_noise_multiplier(target_epsilon=3.0, accountant=accountant, batch_sizes=6,
    num_updates=T, num_samples=N, target_delta=1e-5)
cycles = accounting.calibrate_num_updates(target_epsilon=20.0, accountant=accountant, noise_multipliers=1.0,
    batch_sizes=6, num_samples=N, target_delta=1e-5, cycle_length=2)
plan = BandMFExecutionPlanConfig(
    iterations=T, strategy=[1.0], epsilon=5.0, delta=1e-5, sampling_prob=0.1, noise_seed=0).plan
params = accounting.DpParams(noise_multipliers=2.0, batch_size=6, num_samples=N, delta=1e-5)
asked = accountant.compute_epsilon(T, params)
"""
    program = write(text + LOOP)
    values, (run, _) = alone(program), recorded(program)
    first, second, third = run.claim.calibrations
    assert (first.target_epsilon, first.sampling_rate, first.steps) == (3.0, 0.1, 12)
    assert first.noise_multiplier == values["found"]
    assert (second.sampling_rate, second.steps, second.noise_multiplier) == (0.2, values["cycles"] // 2, 1.0)
    assert (third.target_epsilon, third.target_delta, third.sampling_rate, third.steps) == (
        5.0,
        1e-5,
        0.1,
        12,
    )
    (stated,) = run.claim.stated
    assert stated.epsilon == values["asked"]
    (accounted,) = stated.accounted
    assert (accounted.sampling_rate, accounted.noise_multiplier, accounted.steps) == (0.1, 2.0, 12)
    assert run.claim.unread == ()


def test_an_account_of_fixed_sizes_is_not_taken_for_poisson(write) -> None:
    text = """
from jax_privacy import accounting
accountant = accounting.DpsgdTrainingAccountant(accounting.RdpAccountantConfig())
accountant.compute_epsilon(T, accounting.DpParams(
    noise_multipliers=2.0, batch_size=6, num_samples=N, delta=1e-5,
    sampling_method=accounting.SamplingMethod.FIXED_BATCH_SIZE))
"""
    run, _ = recorded(write(text + LOOP))
    assert "FIXED_BATCH_SIZE" in run.claim.unread[0]


TWICE = """
def begin():
    global weights, state
    weights = jnp.ones(3)
    state = noise.init(weights), jax.jit(optimizer.init)(weights)

kept = weights, state
for seed in range(2):
    {begin}
    for drawn in strategy.batch_iterator(N, rng=seed):
        train(drawn)
import dp_accounting
event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.0))
dp_accounting.rdp.RdpAccountant().compose(event, T).get_epsilon(1e-5)
"""


def test_trainings_one_after_the_other_are_told_apart_by_their_begins(write) -> None:
    program = write(TWICE.replace("{begin}", "begin()"))
    run, first = recorded(program)
    seen = alone(program)["seen"]
    assert first == seen[:12]
    told = [one.recording.trace for one in run.traces if one.optimizer == run.main.optimizer]
    assert [sorted(batch.tolist()) for batch in told[1].batches()] == seen[12:]
    assert (run.steps, run.unjudgeable) == (12, "")


def test_trainings_that_begin_from_a_state_that_was_kept_are_not_judged(write) -> None:
    run, batches = recorded(write(TWICE.replace("{begin}", "weights, state = kept")))
    assert len(batches) == 24
    assert "24 steps were made, in 2 passes over batches, and 12 are accounted for" in run.unjudgeable
