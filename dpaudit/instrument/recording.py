"""Record what a loader delivers: from loader to SamplingTrace, over epochs and runs."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy.typing as npt

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument import kinds
from dpaudit.instrument.index_log import NO_INDEX, NoRecordNumbersError
from dpaudit.instrument.labels import fitting_labels
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recorder import Recorder
from dpaudit.instrument.result import Recording, finish, from_trace
from dpaudit.instrument.seeding import restored, seeded
from dpaudit.instrument.sources import Source, open_source
from dpaudit.instrument.step_count import default_steps
from dpaudit.instrument.target import Target
from dpaudit.instrument.usercode import user_code
from dpaudit.trace import SamplingTrace

Progress = Callable[[int, int], None]


def record(
    loader: Any,
    *,
    steps: int | None = None,
    runs: int = 1,
    seed: int | None = None,
    num_records: int | None = None,
    progress: Progress | None = None,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    batch_size: int | None = None,
    method: Method | None = None,
) -> SamplingTrace:
    """Record which records a loader puts in each batch; see `capture`, which also says how."""
    return capture(
        loader,
        steps=steps,
        runs=runs,
        seed=seed,
        num_records=num_records,
        progress=progress,
        labels=labels,
        batch_size=batch_size,
        method=method,
    ).trace


def capture(
    loader: Any,
    *,
    steps: int | None = None,
    runs: int = 1,
    seed: int | None = None,
    num_records: int | None = None,
    progress: Progress | None = None,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    batch_size: int | None = None,
    method: Method | None = None,
    recorder: Recorder | None = None,
) -> Recording:
    """Iterate a loader, again and again as epochs do, and record the records of each batch.

    Each delivered batch counts as one optimizer step, empty ones too; batches fetched ahead do not
    count. No batch beyond the last wanted one is asked for, and worker processes are stopped.
    Without a seed, and with one run, the loader draws from the global generators what a training
    loop would have drawn.

    Args:
      loader: a torch DataLoader, a Sampler or BatchSampler, an iterable of lists of record numbers,
        a function `batches(seed, steps)`, a factory of one of these without arguments, a `Target`,
        or a SamplingTrace.
      steps: to record in each run; None chooses (`default_steps`). Fewer if the loader ends for good.
      runs: independent runs. A factory or target builds a new loader for each, so that a seed fixed
        in the code shows as equal runs; a loader object is iterated on.
      seed: of the global generators of Python, NumPy and torch, and of `batches`, in the first run;
        seed + r in run r. Their state is restored. None: drawn where one is needed.
      num_records: N; None takes it from the data set, else 1 + the largest number seen.
      progress: called with (steps done, steps wanted) of all runs.
      labels: of each row of the data set, for the test of batch composition; shape (rows,). None
        takes the `labels` of a Target's module, if they fit.
      batch_size: cuts a stream of single record numbers (a bare Sampler) into batches.
      method: None chooses the exact method that costs least.
      recorder: a new one, which takes the batches; None keeps them in memory.

    Raises:
      TargetError: not a loader, or one that cannot be read.
      UserCodeError: the loader raised.
      DpauditError: no record numbers, a number outside 0..N-1, or an empty loader.
    """
    _check_counts(steps=steps, runs=runs, num_records=num_records, batch_size=batch_size)
    stored = loader.loader if isinstance(loader, Target) else loader
    if isinstance(stored, SamplingTrace):
        return from_trace(stored, labels)
    reseed = seed is not None or runs > 1
    first_seed = secrets.randbelow(2**31) if seed is None else seed
    recorder = Recorder() if recorder is None else recorder
    # What the user's file prints must not mix with a report on stdout.
    talk = contextlib.redirect_stdout(sys.stderr) if isinstance(loader, Target) else contextlib.nullcontext()
    with talk, _naming_data_loaders(loader), restored() if reseed else contextlib.nullcontext():
        for run in range(runs):
            built = isinstance(loader, Target) and run == 0 and loader.seed == seed
            with seeded(first_seed + run if reseed and not built else None):
                opened = loader.loader if built else _open(loader, run)
                source = open_source(opened, seed=first_seed + run, batch_size=batch_size, method=method)
                stated = _stated(loader, source) if num_records is None else num_records
                recorder.opened(source, stated)
                wanted = steps or default_steps(source.facts, source.method)
                _read_run(source, recorder, wanted, run, runs, progress)
    beside: tuple[str, ...] = ()
    if labels is None and isinstance(loader, Target):
        labels, beside = fitting_labels(loader.labels, source, stated)
    used = first_seed if reseed or kinds.is_batches_function(opened) else None
    notes = () if runs == 1 or opened is not loader or used is None else (_SAME_OBJECT,)
    with _naming_data_loaders(loader):
        return finish(recorder, source, stated=stated, labels=labels, seed=used, notes=notes + beside)


@contextlib.contextmanager
def _naming_data_loaders(loader: Any) -> Iterator[None]:
    """Add to a refusal of batches of data where the DataLoader may be that they come from."""
    try:
        yield
    except NoRecordNumbersError as error:
        if isinstance(loader, Target) and error.hint == NO_INDEX:
            inside = " or ".join(loader.data_loaders)
            advice = f"name the DataLoader inside: {inside}." if inside else _NAME_IT
            error.hint += f" If it wraps a DataLoader, {advice}"
        raise


_NAME_IT = "give that one a name in the file and audit it: my_loader.py:name."
_SAME_OBJECT = (
    "All runs iterated one and the same loader object: a seed fixed when it was built would not show."
)


def _stated(loader: Any, source: Source) -> int | None:
    """Give N as the module of a target has it, for a loader that does not know it."""
    unknown = isinstance(loader, Target) and source.facts.num_records is None
    return loader.num_records if unknown else None


def _open(loader: Any, run: int) -> Any:
    """Build the loader of one run: targets and factories anew, other objects as they are."""
    if isinstance(loader, Target):
        return loader.loader if run == 0 and loader.seed is None else loader.reload().loader
    if kinds.is_factory(loader) and not kinds.is_batches_function(loader):
        missing = kinds.required_arguments(loader)
        if missing:
            raise TargetError(f"the factory needs arguments: {', '.join(missing)}", "Wrap it in a lambda.")
        with user_code("make the loader"):
            return loader()
    return loader


_BARREN_PASSES = 5
"""Passes in a row without a batch after which a loader counts as ended: a sampler that skips empty
Poisson batches may give none in a short epoch by chance."""


def _read_run(
    source: Source, recorder: Recorder, wanted: int, run: int, runs: int, progress: Progress | None
) -> None:
    recorder.start_run()
    barren = 0
    try:
        while recorder.steps_of_run < wanted and barren < _BARREN_PASSES:
            before = recorder.steps
            for _ in source.one_pass(recorder, wanted):
                if progress is not None:
                    progress(run * wanted + recorder.steps_of_run, runs * wanted)
                if recorder.steps_of_run >= wanted:
                    break
            barren = barren + 1 if recorder.steps == before else 0
    finally:
        source.close()
    if run > 0 and recorder.steps_of_run == 0:
        raise DpauditError(
            f"the loader gave nothing in run {run + 1} of {runs}",
            "It can be iterated only once; give a function that makes it.",
        )


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or value < 1):
            raise ValueError(f"expected {name} >= 1, got {value!r}")
