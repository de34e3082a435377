"""Programs that train several times, or make a new optimizer on the way: what is left out is doubted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpaudit.instrument.script import Program, ReadClaim, record_script
from dpaudit.instrument.script.children import Child
from dpaudit.instrument.script.own_ranks import run_of_all
from dpaudit.instrument.seeding import restored

pytest.importorskip("torch")
dp_accounting = pytest.importorskip("dp_accounting")

SETUP = """
import dp_accounting, torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.arange(40.0)[:, None]), batch_size=5, shuffle=True)

def account(steps):
    event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.0))
    dp_accounting.rdp.RdpAccountant().compose(event, steps).get_epsilon(1e-5)

def train(optimizer, *models, epochs=1):
    for _ in range(epochs):
        for (x,) in loader:
            optimizer.zero_grad()
            sum(model(x).sum() for model in models).backward()
            optimizer.step()

def new():
    return torch.nn.Linear(1, 1)

def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=1e-3)

model = new()
"""


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


PARTS = {
    "a new optimizer each epoch": "for _ in range(4):\n    train(sgd(model), model)\naccount(32)\n",
    "each of them accounted for": "for _ in range(4):\n    train(sgd(model), model)\n    account(8)\n",
    "other models, one account": "for _ in range(3):\n    other = new()\n    train(sgd(other), other)\n"
    "account(8)\n",
    "many short ones": "train(sgd(model), model, epochs=4)\naccount(32)\n"
    "for _ in range(2):\n    train(sgd(model), model)\n",
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_trace_that_may_be_a_part_is_doubted(write, tmp_path: Path, name: str, streamed: bool) -> None:
    run = record_script(write(PARTS[name]), stream=tmp_path / "kept" if streamed else None)
    assert "steps on the same data set" in run.doubt


WHOLE = {
    "one optimizer": "train(sgd(model), model, epochs=2)\naccount(16)\n",
    "trainings of their own": "for _ in range(3):\n    other = new()\n    train(sgd(other), other)\n"
    "    account(8)\n",
    "a short one before": "first = new()\ntrain(sgd(first), first)\n"
    "train(sgd(model), model, epochs=4)\naccount(32)\n",
    "side by side": """
other = new()
two = sgd(other)
class Both:
    def zero_grad(self):
        pass
    def step(self):
        one.step()
        two.step()
one = sgd(model)
train(Both(), model, other, epochs=2)
account(16)
""",
    "another data set": "train(sgd(model), model)\n"
    "loader = DataLoader(TensorDataset(torch.zeros(30, 1)), 5)\n"
    "train(sgd(model), model)\naccount(8)\n",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_trace_of_a_whole_training_is_not_doubted(write, name: str) -> None:
    run = record_script(write(WHOLE[name]))
    assert run.doubt == ""


VALIDATED = """
valid = DataLoader(TensorDataset(torch.arange(30.0)[:, None]), batch_size=1)
optimizer = sgd(model)
for epoch in range(3):
    looks = iter(valid)
    for number, (x,) in enumerate(loader):
        if number % {every} == 0:
            with torch.no_grad():
                model(next(looks)[0])
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("every", "told"), [(1, False), (4, True)])
def test_validation_out_of_an_open_iterator_is_not_taken_for_the_training(
    write, every: int, told: bool
) -> None:
    """A validation set in its order, walked beside the training, must not convict it."""
    run = record_script(write(VALIDATED.format(every=every)))
    assert (run.unjudgeable == "") is told
    assert run.main.recording.trace.num_records == 40 or not told


@pytest.mark.parametrize(("epochs", "doubted"), [(1, False), (2, True)])
def test_processes_that_train_beside_the_first_one_are_doubted(write, epochs: int, doubted: bool) -> None:
    own, beside = (
        record_script(write(f"train(sgd(model), model, epochs={made})\naccount(32)\n"))
        for made in (4, epochs)
    )
    run = run_of_all(own, [Child(number=0, ending="", run=beside)], ReadClaim(), [], None)
    assert "1 processes that the program started trained too" in run.notes[-1]
    assert bool(run.doubt) is doubted
    lost = run_of_all(own, [Child(number=0, ending="", problem=("no", ""))], ReadClaim(), [], None)
    assert lost.doubt
