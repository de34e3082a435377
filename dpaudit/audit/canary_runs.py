"""All runs of a canary audit: in processes, each kept in a file as soon as it is finished."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpaudit.audit_report import dump_json, write_whole
from dpaudit.errors import DpauditError, TargetError, nearest_name

if TYPE_CHECKING:
    from dpaudit.dpsgd.canaries import RecordedRun, RunPlan

Scores = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
"""Called with (done, wanted)."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def run_all(
    plan: RunPlan,
    runs: int,
    *,
    jobs: int = 0,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> list[RecordedRun]:
    """Make every run that is not kept already.

    Args:
      plan: of the audit.
      runs: how many.
      jobs: processes; 0: one for each processor, 1: this one.
      directory: finished runs are kept here, each under the hash of everything that decides it, so that an
        interrupted audit goes on where it was; None keeps none.
      progress: called with (runs done, runs wanted).

    Raises:
      DpauditError: the directory cannot be used, or a run failed.
    """
    if directory is not None:
        _make(directory)
    found = {run: kept for run in range(runs) if (kept := _kept(plan, run, directory)) is not None}
    missing = [run for run in range(runs) if run not in found]
    if progress is not None:
        progress(len(found), runs)
    for run, recorded in _made(plan, missing, jobs or os.cpu_count() or 1, directory):
        found[run] = recorded
        if progress is not None:
            progress(len(found), runs)
    return [found[run] for run in range(runs)]


def pledge(plan: RunPlan, directory: Path, *, drawn: bool) -> RunPlan:
    """Write down a plan before any of its runs is made.

    Args:
      plan: of the audit.
      directory: where its runs will be kept.
      drawn: whether the seed was drawn, and not set by anybody. An audit that was interrupted then goes on
        with the seed that it had drawn.

    Returns:
      The plan that is pledged.

    Raises:
      DpauditError: the directory cannot be used.
    """
    _make(directory)
    place = _pledge_place(plan, directory)
    if drawn:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            plan = replace(plan, seed=int(json.loads(place.read_text())["seed"]))
    write_whole(place, dump_json({"seed": plan.seed, "plan": plan.fingerprint(0)}))
    return plan


def forget(plan: RunPlan, runs: int, directory: Path) -> None:
    """Remove the kept runs of a finished audit; the next one starts afresh."""
    _pledge_place(plan, directory).unlink(missing_ok=True)
    for run in range(runs):
        _place(plan, run, directory).unlink(missing_ok=True)
    for part in directory.glob(f"models-*-{plan.fingerprint(0)[:32]}.npy"):
        part.unlink()


def make_run(plan: RunPlan, run: int, directory: Path | None = None) -> RecordedRun:
    """Make one run, and keep it."""
    import torch

    from dpaudit.dpsgd.canaries import train_pipeline, train_reference

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if plan.train:
            recorded = _guarded(plan.train, lambda: train_pipeline(plan, run, load_function(plan.train)))
        elif ".py" in plan.model:
            build = load_function(plan.model)
            recorded = _guarded(plan.model, lambda: train_reference(plan, run, build=build))
        else:
            recorded = train_reference(plan, run)
    finally:
        torch.set_num_threads(threads)
    if directory is not None:
        write_whole(_place(plan, run, directory), recorded.to_bytes())
    return recorded


def load_function(target: str) -> Callable[..., Any]:
    """Import `file.py:name` and give what has that name.

    Raises:
      TargetError: no such file or name, or it cannot be called.
      UserCodeError: the file raised.
    """
    from dpaudit.instrument.importing import import_file

    file, _, name = target.partition(":")
    if not name or not Path(file).is_file():
        raise TargetError(
            f"cannot find {target!r}", "Write file.py:function; the path is from the file's own."
        )
    module = import_file(Path(file))
    function = getattr(module, name, None)
    if not callable(function):
        raise TargetError(f"{file} has no function {name!r}", nearest_name(name, vars(module)))
    return function  # type: ignore[no-any-return]  # callable() does not narrow a module's attribute


def save_scores(plan: RunPlan, part: slice, scores: Scores, directory: Path | None) -> None:
    """Keep the scores of some small models."""
    if directory is not None:
        _make(directory)
        content = io.BytesIO()
        np.save(content, scores, allow_pickle=False)
        write_whole(_part_place(plan, part, directory), content.getvalue())


def load_kept_scores(plan: RunPlan, part: slice, directory: Path | None) -> Scores | None:
    """Read the scores of some small models; None where there are none, or they are not whole."""
    if directory is None:
        return None
    try:
        return np.load(_part_place(plan, part, directory), allow_pickle=False)  # type: ignore[no-any-return]
    except (OSError, ValueError, EOFError):
        return None


def _part_place(plan: RunPlan, part: slice, directory: Path) -> Path:
    return directory / f"models-{part.start}-{part.stop}-{plan.fingerprint(0)[:32]}.npy"


def _guarded(target: str, call: Callable[[], RecordedRun]) -> RecordedRun:
    from dpaudit.instrument.usercode import user_code

    with user_code(f"run {target}", keep_stdout=False):
        return call()


def _made(
    plan: RunPlan, missing: list[int], jobs: int, directory: Path | None
) -> Iterator[tuple[int, RecordedRun]]:
    if jobs == 1 or len(missing) < 2:
        for run in missing:
            yield run, make_run(plan, run, directory)
        return
    from joblib import Parallel, delayed

    with _single_threaded():
        made = Parallel(n_jobs=min(jobs, len(missing)), return_as="generator_unordered")(
            delayed(_numbered)(plan, run, directory) for run in missing
        )
        yield from made


def _numbered(plan: RunPlan, run: int, directory: Path | None) -> tuple[int, RecordedRun]:
    return run, make_run(plan, run, directory)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let the processes that are started meanwhile use one thread each."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DpauditError(f"cannot keep runs in {directory}: {error.strerror or error}") from error


def _pledge_place(plan: RunPlan, directory: Path) -> Path:
    """Name the pledge after everything but the seed."""
    return directory / f"plan-{replace(plan, seed=0).fingerprint(0)[:32]}.json"


def _place(plan: RunPlan, run: int, directory: Path) -> Path:
    return directory / f"run-{plan.fingerprint(run)[:32]}.npz"


def _kept(plan: RunPlan, run: int, directory: Path | None) -> RecordedRun | None:
    """Read a run that is kept; None where there is none, or where it is not whole."""
    if directory is None or not _place(plan, run, directory).exists():
        return None
    from dpaudit.dpsgd.canaries import RecordedRun

    try:
        return RecordedRun.load(_place(plan, run, directory))
    except (OSError, ValueError):
        return None
