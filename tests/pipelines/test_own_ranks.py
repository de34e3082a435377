"""Programs that start their ranks themselves: each rank records, and they are audited together."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpaudit.trace import SamplingTrace
from tests.pipelines.test_ranks import CODES, ROOT, Ran
from tests.pipelines.test_ranks import PROGRAMS as PARTS

pytest.importorskip("torch")
pytest.importorskip("dp_accounting")
PROGRAMS = Path(__file__).parent / "own_ranks"

# Program -> (verdict, what the report must say).
GALLERY = {
    "spawned_poisson": ("consistent", "from 300 records"),
    "started_same_seed": ("unsupported", "some records come twice"),
}
TRAIN = """
import os, signal, sys, tempfile
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed import destroy_process_group, init_process_group
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

def join(rank, world, place):
    init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=world)

def train(rank, world, place, act=""):
    if place:
        join(rank, world, place)
    torch.manual_seed(rank)
    data = TensorDataset(torch.arange(40.0)[:, None])
    model = torch.nn.Linear(1, 1)
    model = torch.nn.parallel.DistributedDataParallel(model) if place else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    sampler = DistributedSampler(data, world, rank % world)
    losses = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for (x,) in DataLoader(data, batch_size=5, sampler=sampler):
            optimizer.zero_grad()
            loss = (model(x + torch.rand(1)) ** 2).sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        exec(act)
    sys.stdout.write(f"losses {rank} {losses}\\n")  # at once: both ranks write to one pipe
    sys.stdout.flush()
    if place:
        destroy_process_group()

def main():
    with tempfile.TemporaryDirectory() as meeting:
"""
SPAWN = "        mp.spawn(train, args=(2, meeting + '/ranks'{more}), nprocs=2)\n"
FORK = "        mp.start_processes(train, args=(2, meeting + '/ranks'), nprocs=2, start_method='fork')\n"
MAIN = "if __name__ == '__main__':\n    main()\n"
CLAIM = ("--sampling-rate", "0.25", "--noise-multiplier", "1", "--delta", "1e-5")


def launch(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(PARTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=170, cwd=tmp_path, env=environment
    )


def audit(tmp_path: Path, program: Path | str, *flags: str, module: bool = False) -> Ran:
    output = tmp_path / "report.json"
    output.unlink(missing_ok=True)
    what = ["-m" if module else "--script", str(program), *flags, "--format", "json", "-o", str(output)]
    ran = launch(tmp_path, "-m", "dpaudit", "sampler", *what)
    assert not list(tmp_path.glob("dpaudit-ranks-*")), "traces were left behind"
    return Ran(ran.returncode, ran.stdout + ran.stderr, output.read_text() if output.exists() else "")


def write(tmp_path: Path, text: str) -> Path:
    program = tmp_path / "train.py"
    program.write_text(text)
    return program


@pytest.mark.parametrize(
    "name", ["spawned_poisson", pytest.param("started_same_seed", marks=pytest.mark.slow)]
)
def test_each_program_gets_its_verdict(name: str, tmp_path: Path) -> None:
    verdict, says = GALLERY[name]
    ran = audit(tmp_path, PROGRAMS / f"{name}.py")
    assert ran.report, ran.log
    assert json.loads(ran.report)["verdict"]["outcome"] == verdict
    assert ran.code == CODES[verdict]
    assert says in ran.report
    assert "2 ranks were put together" in ran.report
    assert "The program started 2 processes that trained" in ran.report


@pytest.mark.slow
@pytest.mark.parametrize(("how", "module"), [(SPAWN, False), (SPAWN, True), (FORK, False)])
def test_ranks_compute_the_same_and_each_step_holds_the_batches_of_both(
    how: str, module: bool, tmp_path: Path
) -> None:
    program = write(tmp_path, TRAIN + how.format(more="") + MAIN)
    told = [line for line in launch(tmp_path, str(program)).stdout.splitlines() if "losses" in line]
    target = "train" if module else program
    ran = audit(tmp_path, target, *CLAIM, "--save-trace", "t.npz", module=module)
    assert ran.report, ran.log
    assert len(told) == 2
    assert sorted(line for line in ran.log.splitlines() if "losses" in line) == sorted(told)
    trace = SamplingTrace.load(tmp_path / "t.npz")
    assert trace.steps == 12
    for epoch in range(3):
        assert sorted(trace.indices[epoch * 40 :][:40].tolist()) == list(range(40))


@pytest.mark.slow
def test_the_ranks_stop_after_the_wanted_steps_and_the_program_with_them(tmp_path: Path) -> None:
    program = write(tmp_path, TRAIN + SPAWN.format(more="") + "    print('went on')\n" + MAIN)
    ran = audit(tmp_path, program, *CLAIM, "--steps", "5")
    assert json.loads(ran.report)["sampling"]["steps"] == 5, ran.log
    assert "stopped after the wanted number of steps" in ran.report
    assert "went on" not in ran.log


@pytest.mark.slow
def test_each_rank_streams_to_a_directory_of_its_own(tmp_path: Path) -> None:
    program = write(tmp_path, TRAIN + SPAWN.format(more="") + MAIN)
    ran = audit(tmp_path, program, *CLAIM, "--stream", "kept")
    assert "2 ranks were put together" in ran.report, ran.log
    assert sorted(one.name for one in (tmp_path / "kept").iterdir()) == ["process-0", "process-1"]
    assert SamplingTrace.load(tmp_path / "kept" / "process-1").steps == 12


ENDS = {
    "a rank fails": ("if rank: raise RuntimeError('out of luck')", "out of luck"),
    "a rank is killed": ("if rank: os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_a_rank_that_is_lost_is_named(name: str, tmp_path: Path) -> None:
    act, says = ENDS[name]
    program = write(tmp_path, TRAIN + SPAWN.format(more=f", {act!r}") + MAIN)
    ran = audit(tmp_path, program, *CLAIM)
    assert ran.code in (1, 2, 3)
    assert says in ran.log
    assert "rank 1" in ran.log + ran.report


ALONE = {
    "side by side": (
        "        mp.spawn(train, args=(1, ''), nprocs=2)\n",
        "trained side by side: they joined no process group",
    ),
    "one after the other": (
        "".join(SPAWN.format(more="").replace("ranks", name) for name in ("first", "second")),
        "trained several times in processes of its own",
    ),
    "a rank that nobody sees": (
        "        import subprocess\n"
        "        code = 'import sys, train; train.train(1, 2, sys.argv[1])'\n"
        "        other = subprocess.Popen([sys.executable, '-c', code, meeting + '/ranks'])\n"
        "        train(0, 2, meeting + '/ranks')\n"
        "        other.wait()\n",
        "rank 1 of 2 left no trace: no process of it was seen",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_what_is_not_one_training_seen_whole_is_refused(name: str, tmp_path: Path) -> None:
    text, says = ALONE[name]
    ran = audit(tmp_path, write(tmp_path, TRAIN + text + MAIN), *CLAIM)
    assert says in ran.log
    assert ran.code == 2
    assert not ran.report


@pytest.mark.slow
def test_one_process_that_trains_is_audited_as_the_program(tmp_path: Path) -> None:
    text = (
        "        helper = mp.get_context('spawn').Process(target=print, args=('no rank',))\n"
        "        helper.start(); helper.join()\n"
        "        mp.spawn(train, args=(1, meeting + '/ranks'), nprocs=1)\n"
    )
    ran = audit(tmp_path, write(tmp_path, TRAIN + text + MAIN), *CLAIM)
    assert json.loads(ran.report)["sampling"]["steps"] == 24, ran.log
    assert "ranks were put together" not in ran.report


@pytest.mark.slow
def test_the_first_process_may_be_a_rank(tmp_path: Path) -> None:
    text = (
        "        other = mp.get_context('spawn').Process(target=train, args=(1, 2, meeting + '/ranks'))\n"
        "        other.start()\n"
        "        train(0, 2, meeting + '/ranks')\n"
        "        other.join()\n"
    )
    ran = audit(tmp_path, write(tmp_path, TRAIN + text + MAIN), *CLAIM, "--save-trace", "t.npz")
    assert "2 ranks were put together" in ran.report, ran.log
    assert SamplingTrace.load(tmp_path / "t.npz").batch_sizes.tolist() == [10] * 12


def gallery_table() -> str:
    """Give the rows of the table in docs/ecosystems.md."""
    rows = []
    for name, (verdict, _) in GALLERY.items():
        told = ast.get_docstring(ast.parse((PROGRAMS / f"{name}.py").read_text())) or ""
        rows.append(f"| `{name}.py`: {told.splitlines()[0].rstrip('.')} | torch | {verdict} |")
    return "\n".join(rows)


def test_the_documented_table_is_this_gallery() -> None:
    assert gallery_table() in (ROOT / "docs" / "ecosystems.md").read_text()
    assert {path.stem for path in PROGRAMS.glob("*.py")} == set(GALLERY)
