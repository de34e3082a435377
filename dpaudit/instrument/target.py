"""Load what a target names: `my_loader.py:name(arg=1)`, `package.module:name`, `trace.npz`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from dpaudit.errors import TargetError, nearest_name
from dpaudit.instrument.expression import evaluate
from dpaudit.instrument.importing import import_file, import_module
from dpaudit.instrument.kinds import is_torch_loader
from dpaudit.instrument.labels import usable_labels
from dpaudit.instrument.resolve import find_loader, obtain, obtain_product
from dpaudit.instrument.script.spooled import is_recording, recovered
from dpaudit.instrument.seeding import seeded
from dpaudit.trace import SamplingTrace
from dpaudit.trace_file import CHUNKS, HEADER, PROGRAM

_FILE = re.compile(r"(?P<file>.+\.py)(?::(?P<name>.+))?", re.DOTALL)
_MODULE = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?::(?P<name>.+))?", re.DOTALL)
_FORMS = (
    "A target is my_loader.py, my_loader.py:name, my_loader.py:name(arg=1), package.module:name, trace.npz "
    "or a trace directory."
)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A loader with the place it came from, so that it can be built again."""

    spec: str
    """As the user gave it."""
    file: Path | None
    """The file that was read; None for a module that has none."""
    name: str
    """Expression that gave the loader: "train_loader", "make_loader()"; "" for a trace file."""
    loader: Any
    """DataLoader, Sampler, iterable of record numbers, `batches` function, or SamplingTrace."""
    num_records: int | None
    """`num_records` or `NUM_RECORDS` of the module: N for a loader that does not know it itself."""
    seed: int | None = None
    """Seed of the global generators when the file was executed; None: they were left alone."""
    labels: npt.NDArray[Any] | None = None
    """`labels` of the module: one for each row of the data set, shape (rows,)."""
    data_loaders: tuple[str, ...] = ()
    """Targets of the DataLoaders that the module has by name."""

    def reload(self, *, seed: int | None = None) -> Target:
        """Execute the file again and build a second loader."""
        return load_target(self.spec, seed=seed)


def load_target(spec: str, *, seed: int | None = None) -> Target:
    """Import the file or module of a target and find the loader in it.

    Without a name the loader is looked for by `find_loader`. The file is executed with its own
    directory first on `sys.path`, and may not start training. `num_records` and `labels`, where the
    module has them, are kept with the loader.

    Args:
      spec: `my_loader.py`, `my_loader.py:name`, `my_loader.py:name(arg=1)` (literals only),
        `package.module:name`, or `trace.npz`.
      seed: set in the global generators of Python, NumPy and torch before the file is executed,
        and not undone after it. None leaves them alone.

    Raises:
      TargetError: no such file or name, several candidates, or the import starts training.
      UserCodeError: the file, or the function that makes the loader, raised.
      TraceError: a trace file that cannot be read.
    """
    if spec.endswith(".npz"):
        return Target(spec, Path(spec), "", SamplingTrace.load(_existing(spec)), None)
    if is_recording(Path(spec)):
        return Target(spec, Path(spec) / PROGRAM, "", recovered(Path(spec)), None)
    if ranks := sorted(Path(spec).glob("rank-*")):
        raise TargetError(
            f"{spec} holds the traces of {len(ranks)} ranks, which only the run itself puts together",
            f"Look at one rank alone: {ranks[0]}.",
        )
    if (Path(spec) / HEADER).is_file():
        return Target(spec, Path(spec) / CHUNKS, "", SamplingTrace.load(spec), None)
    with seeded(seed):
        module, file, name = _imported(spec)
        where = spec if name is None else spec.removesuffix(f":{name}")
        if name is None:
            name, loader = find_loader(module, where)
        else:
            name, loader = _named(name, module, where)
    labels = usable_labels(getattr(module, "labels", None))
    inside = tuple(f"{where}:{known}" for known, value in vars(module).items() if is_torch_loader(value))
    return Target(spec, file, name, loader, _stated_num_records(module), seed, labels, inside)


def _imported(spec: str) -> tuple[ModuleType, Path | None, str | None]:
    if match := _FILE.fullmatch(spec):
        path = _existing(match["file"])
        return import_file(path), path, match["name"]
    if Path(spec).exists() or "/" in spec or "\\" in spec:
        raise TargetError(f"cannot tell what {spec} is", _FORMS)
    if match := _MODULE.fullmatch(spec):
        module = import_module(match["module"])
        file = getattr(module, "__file__", None)
        return module, Path(file) if file else None, match["name"]
    raise TargetError(f"cannot read the target {spec!r}", _FORMS)


def _named(name: str, module: ModuleType, where: str) -> tuple[str, Any]:
    value = evaluate(name, module, where)
    called = name.rstrip().endswith((")", "]"))
    return obtain_product(name, value, where) if called else obtain(name, value, where)


def _existing(file: str) -> Path:
    path = Path(file)
    if path.is_dir():
        raise TargetError(f"{file} is a directory", _FORMS)
    if not path.exists():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TargetError(f"no such file: {file}", nearest_name(path.name, beside))
    return path


def _stated_num_records(module: ModuleType) -> int | None:
    for name in ("num_records", "NUM_RECORDS"):
        value = getattr(module, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
