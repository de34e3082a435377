"""Distributed programs under torchrun, right and wrong, each with the verdict that all ranks must give."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpaudit.trace import SamplingTrace

pytest.importorskip("torch")
pytest.importorskip("dp_accounting")
ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "ranks"

# Program -> (verdict, what the report must say, libraries beside torch).
GALLERY: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "split_poisson": ("consistent", "from 300 records", ()),
    "equal_draws_split": ("consistent", "from 300 records", ()),
    "opacus_distributed": ("consistent", "from 300 records", ("opacus",)),
    "unsplit": ("unsupported", "some records come twice", ()),
    "shuffled": ("refuted", "(shuffle)", ()),
    "shuffled_without_set_epoch": ("refuted", "every epoch", ()),
    "skipped_empty": ("unsupported", "they drifted apart", ()),
    "accelerate_rate": ("unsupported", "some records come twice", ("accelerate",)),
}
QUICK = ("split_poisson", "unsplit")
CODES = {"consistent": 0, "refuted": 1, "unsupported": 1, "inconclusive": 3}


@dataclass(frozen=True)
class Ran:
    code: int
    log: str
    report: str

    @property
    def exit_codes(self) -> list[int]:
        """Those of the ranks, as torchrun tells them where one failed."""
        return [int(code) for code in re.findall(r"exitcode\s+:\s*(-?\d+)", self.log)]


def torchrun(program: Path, tmp_path: Path, *flags: str, arguments: tuple[str, ...] = ()) -> Ran:
    output = tmp_path / "report.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "dpaudit", "sampler", "--script", str(program), "--format", "json", "-o", str(output)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    path = os.pathsep.join([str(ROOT), str(PROGRAMS), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = subprocess.run(
        [*command, *flags, "--", *arguments],
        capture_output=True,
        text=True,
        timeout=170,
        cwd=tmp_path,
        env={**os.environ, **threads, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
    )
    assert not list(tmp_path.glob("dpaudit-ranks-*")), "traces were left behind"
    return Ran(ran.returncode, ran.stdout + ran.stderr, output.read_text() if output.exists() else "")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GALLERY]
)
def test_each_program_gets_its_verdict_on_all_ranks(name: str, tmp_path: Path) -> None:
    verdict, says, libraries = GALLERY[name]
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    ran = torchrun(PROGRAMS / f"{name}.py", tmp_path)
    assert ran.report, ran.log
    assert json.loads(ran.report)["verdict"]["outcome"] == verdict
    assert says in ran.report
    assert "2 ranks were put together" in ran.report
    assert (ran.code == 0) == (verdict == "consistent")
    assert ran.exit_codes == ([] if verdict == "consistent" else [CODES[verdict]] * 2)


@pytest.mark.slow
def test_a_rank_that_fails_ends_the_others_and_is_named(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    text = (PROGRAMS / "split_poisson.py").read_text()
    program.write_text(
        text.replace("    train_step(", "    if (steps := locals().get('steps', 0) + 1) == 9 and rank:\n"
                     "        raise RuntimeError('out of luck')\n    train_step(")
    )  # fmt: skip
    ran = torchrun(program, tmp_path)
    assert "failed on rank 1 (RuntimeError: out of luck)" in ran.report, ran.log
    assert len(set(ran.exit_codes)) == 1
    assert ran.exit_codes[0] in (2, 3)


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    text = (PROGRAMS / "split_poisson.py").read_text()
    program.write_text(
        text.replace("    train_step(", "    if rank and len(batch[0]) > 8:\n"
                     "        import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n    train_step(")
    )  # fmt: skip
    ran = torchrun(program, tmp_path)
    assert not ran.report
    assert "rank 1 left no trace" in ran.log
    assert ran.code == 1


@pytest.mark.slow
def test_each_rank_streams_to_a_directory_of_its_own(tmp_path: Path) -> None:
    ran = torchrun(PROGRAMS / "split_poisson.py", tmp_path, "--stream", "kept")
    assert json.loads(ran.report)["verdict"]["outcome"] == "consistent", ran.log
    assert "2 ranks were put together" in ran.report
    for rank in range(2):
        assert SamplingTrace.load(tmp_path / "kept" / f"rank-{rank}").num_records in (150, 300)


@pytest.mark.slow
def test_ranks_are_not_followed_while_they_run(tmp_path: Path) -> None:
    ran = torchrun(PROGRAMS / "split_poisson.py", tmp_path, "--follow")
    assert not ran.report
    assert "ranks cannot be followed while they run" in ran.log
    assert ran.exit_codes == [2, 2]


def gallery_table() -> str:
    """Give the rows of the table in docs/ecosystems.md."""
    rows = []
    for name, (verdict, _, libraries) in GALLERY.items():
        told = ast.get_docstring(ast.parse((PROGRAMS / f"{name}.py").read_text())) or ""
        used = ", ".join(libraries) or "torch"
        rows.append(f"| `{name}.py`: {told.splitlines()[0].rstrip('.')} | {used} | {verdict} |")
    return "\n".join(rows)


def test_the_documented_table_is_this_gallery() -> None:
    assert gallery_table() in (ROOT / "docs" / "ecosystems.md").read_text()
    assert {path.stem for path in PROGRAMS.glob("*.py")} == {*GALLERY, "parts"}
