"""Steps are handed to a test as they come: the same steps, in the same form, as the trace has in the end."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script import Program, ScriptRun, record_script
from dpaudit.instrument.script.attribution import Pattern, attribute
from dpaudit.instrument.script.feed import Feed
from dpaudit.instrument.script.live_steps import LiveSteps, _DirectUses
from dpaudit.instrument.script.step_names import UPDATE
from dpaudit.instrument.seeding import restored
from tests.instrument.test_script_stream import FROM_THE_GALLERY, LIBRARIES, PLAYED, PROGRAMS, SETUP

pytest.importorskip("torch")
LEAST = 8


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored():
        yield


class Collecting:
    def __init__(self, refutes_at: int | None = None) -> None:
        self.batches: list[list[int]] = []
        self.passes: list[int] = []
        self._refutes_at = refutes_at

    @property
    def refuted(self) -> bool:
        return self._refutes_at is not None and len(self.batches) >= self._refutes_at

    def update(self, batch: np.ndarray) -> None:
        self.batches.append(batch.tolist())

    def start_pass(self) -> None:
        self.passes.append(len(self.batches))


class Watching:
    def __init__(self, *, stop: bool = False, refutes_at: int | None = None, from_step: int = 0) -> None:
        self.stop, self._refutes_at, self._from = stop, refutes_at, from_step
        self.asked = 0
        self.steps_told = 0
        self.said: list[str] = []
        self.num_records: list[int | None] = []

    def may_begin(self, facts: object) -> bool:
        self.asked += 1
        return self.asked > self._from

    def begin(self, num_records: int | None, facts: object) -> Collecting:
        self.num_records.append(num_records)
        return Collecting(self._refutes_at)

    def stepped(self, test: Collecting) -> None:
        self.steps_told += 1

    def withdrawn(self) -> None:
        self.said.append("withdrawn")

    def cannot(self, why: str) -> None:
        self.said.append(why)


def follow(program: Program, watching: Watching, stream: Path | None = None) -> ScriptRun:
    with restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return record_script(program, follow=lambda claims: watching, stream=stream)


def assert_begins(run: ScriptRun, least: float) -> None:
    trace = run.main.recording.trace
    assert run.live is not None
    assert run.live.agrees
    assert least * trace.steps <= run.live.steps <= trace.steps
    found = run.live.test
    assert found.batches == [trace.batch(step).tolist() for step in range(run.live.steps)]
    if trace.epoch_starts is not None:
        assert found.passes == [start for start in trace.epoch_starts.tolist() if start < run.live.steps]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", [name for name in PLAYED if name != "records told by content"])
def test_steps_are_those_of_the_trace(name: str, streamed: bool, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETUP + PLAYED[name].replace("range(3)", "range(8)"))
    watching = Watching()
    run = follow(Program(str(tmp_path / "train.py")), watching, tmp_path / "kept" if streamed else None)
    assert_begins(run, 0.0 if name == "joined before each backward" else 0.7)
    assert watching.said == []
    assert watching.num_records[-1] == run.main.recording.trace.num_records


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FROM_THE_GALLERY if "streamed" not in name])
def test_programs_of_the_gallery_are_followed(name: str) -> None:
    library = LIBRARIES.get(name.split("_")[0], "torch")
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    watching = Watching()
    assert_begins(follow(Program(str(PROGRAMS / f"{name}.py")), watching), 0.8)
    assert watching.said == []


PLAIN = """
losses = []
for _ in range(4):
    for (x,) in DataLoader(data, batch_size=B, shuffle=True):
        optimizer.zero_grad()
        loss = model(x / N).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
keep_for_test.append(losses)
"""


def test_the_program_does_not_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[float]] = []
    monkeypatch.setattr("builtins.keep_for_test", kept, raising=False)
    (tmp_path / "train.py").write_text(SETUP + PLAIN)
    program = Program(str(tmp_path / "train.py"))
    with restored():
        record_script(program)
    run = follow(program, Watching(), tmp_path / "kept")
    assert kept[0] == kept[1]
    assert run.live is not None
    assert run.live.steps == len(kept[0]) == 32


def test_a_refutation_stops_the_program_if_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.keep_for_test", [], raising=False)
    (tmp_path / "train.py").write_text(SETUP + PLAIN)
    program = Program(str(tmp_path / "train.py"))
    run = follow(program, Watching(stop=True, refutes_at=11))
    assert run.main.recording.trace.steps == 11
    assert any("stopped at the step that refuted" in note for note in run.notes)
    assert follow(program, Watching(refutes_at=11)).main.recording.trace.steps == 32


def test_a_claim_that_comes_late_is_tested_from_the_first_step_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.keep_for_test", [], raising=False)
    (tmp_path / "train.py").write_text(SETUP + PLAIN)
    run = follow(Program(str(tmp_path / "train.py")), Watching(from_step=15))
    assert_begins(run, 1.0)


def test_its_failure_ends_the_test_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.keep_for_test", [], raising=False)
    (tmp_path / "train.py").write_text(SETUP + PLAIN)

    def fails(self: Collecting, batch: np.ndarray) -> None:
        self.batches.append(batch.tolist())
        if len(self.batches) == 12:
            raise RuntimeError("a defect of the test")

    monkeypatch.setattr(Collecting, "update", fails)
    watching = Watching()
    run = follow(Program(str(tmp_path / "train.py")), watching)
    assert run.main.recording.trace.steps == 32
    assert "a defect of the test" in watching.said[0]
    assert len(watching.said) == 1


def test_records_told_by_content_are_left_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SETUP + PLAYED["records told by content"])
    watching = Watching()
    run = follow(Program(str(tmp_path / "train.py")), watching)
    assert run.live is None
    assert set(watching.said) == {"records of this loader are told by their content"}


def test_steps_of_compiled_code_are_left_to_the_end() -> None:
    watching = Watching(refutes_at=1, stop=True)
    live = LiveSteps(watching, None)
    feed = Feed(None, Method.STREAM, LoaderFacts(loader="a loader", num_records=9))
    source = feed.start_pass(None)
    for number in range(20):
        feed.deliver(source, [number % 9], True)
        feed.use()
        feed.step(1, UPDATE, number)
        assert not live.stepped([feed], 1, UPDATE)
    assert watching.steps_told == 0
    assert set(watching.said) == {"what steps that JAX compiled hold is judged at their end"}


def test_batches_cut_from_one_are_never_tested(tmp_path: Path) -> None:
    text = (
        "(x,) = next(iter(DataLoader(data, batch_size=N)))\n"
        "for k in range(60):\n    train([x[k % 8 * B:][:B]])\n"
        "for batch in DataLoader(data, batch_size=1):\n    train(batch)\n"
    )
    (tmp_path / "train.py").write_text(SETUP + text)
    watching = Watching(refutes_at=1, stop=True)
    with pytest.raises(Exception, match="one and the same batch"):
        follow(Program(str(tmp_path / "train.py")), watching)
    assert watching.steps_told == 0


def test_uses_are_direct_as_attribution_says() -> None:
    rng = np.random.default_rng(0)
    agreed = set()
    for _ in range(3000):
        feed = Feed(None, None, None)  # type: ignore[arg-type]
        passes = [feed.start_pass(None) for _ in range(3)]
        many = rng.random() < 0.5
        for _ in range(int(rng.integers(1, 12))):
            feed.deliver(passes[int(rng.integers(0, 3 if many else 1))], [1, 2], True)
            for _ in range(int(rng.choice([0, 1, 2], p=[0.1, 0.8, 0.1]))):
                feed.use()
        if not feed.uses:
            continue
        told = attribute(feed.uses, feed.pass_of, feed.log.sizes)
        direct = _DirectUses()
        direct.advance(feed)
        if direct.holds:
            assert told.pattern is Pattern.DIRECT
            assert told.first.tolist() == [reached - 1 for reached in feed.uses]
        agreed.add(direct.holds)
    assert agreed == {True, False}
