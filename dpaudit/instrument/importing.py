"""Import the user's file, or module, the way `python file.py` would see it, without running it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from dpaudit.errors import TargetError
from dpaudit.instrument.training_guard import refuse_training
from dpaudit.instrument.usercode import user_code

_imported: dict[str, str] = {}
"""Private module name -> file, for worker processes that start without our memory (spawn)."""
_helpers: set[str] = set()
"""Modules that a user's file brought in from its own directory; the next file finds its own anew."""


def import_file(path: Path) -> ModuleType:
    """Execute a Python file as a fresh module.

    The file's directory leads `sys.path` and stays there, `__name__` is a private name under which
    the module is registered, `sys.argv` holds the file alone, no bytecode is written. Modules that
    it imports from its directory are executed again too, whenever a file is imported.

    Raises:
      UserCodeError: syntax error, or the file raised or exited.
      TargetError: the import starts training.
    """
    path = path.resolve()
    name = f"_dpaudit_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    for helper in _helpers:
        sys.modules.pop(helper, None)
    _helpers.clear()
    before = set(sys.modules)
    with (
        _as_script(path, path.parent),
        refuse_training(path),
        user_code(f"import {path.name}", keep_stdout=False),
    ):
        module = _execute(name, path)
    _helpers.update(new for new in sys.modules.keys() - before if lies_in(path.parent, new))
    return module


def import_module(name: str) -> ModuleType:
    """Import `package.module` afresh, from the working directory or the environment.

    Raises:
      TargetError: there is no such module, or importing it starts training.
      UserCodeError: the module raised or exited.
    """
    sys.modules.pop(name, None)
    with (
        _as_script(Path(name), Path.cwd()),
        refuse_training(name),
        user_code(f"import {name}", keep_stdout=False),
    ):
        importlib.invalidate_caches()
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise TargetError(
                f"there is no module {error.name!r}", "A file is given with its ending: my_loader.py"
            ) from error


class UserModules:
    """Pickles to the private names and files of the modules imported so far.

    Placed before the user's objects in a pickle, it makes their classes importable in a spawned
    worker process, which knows nothing of private names.
    """

    def __reduce__(self) -> tuple[object, tuple[dict[str, str]]]:
        """Pickle as names and files."""
        return restore_user_modules, (dict(_imported),)


def restore_user_modules(files: dict[str, str]) -> UserModules:
    """Make private module names importable in a worker process, each once it is asked for."""
    known = any(isinstance(finder, _UserFiles) for finder in sys.meta_path)
    starting = getattr(multiprocessing.current_process(), "_inheriting", False)  # set while a child unpickles
    if files and not known and starting:
        sys.meta_path.append(_UserFiles(files))
        sys.stdout = sys.stderr  # as in the parent: what the file prints must not mix with a report
    return UserModules()


class _UserFiles(MetaPathFinder):
    def __init__(self, files: dict[str, str]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self._files.get(fullname)
        if file is None:
            return None
        if str(Path(file).parent) not in sys.path:
            sys.path.insert(0, str(Path(file).parent))
        return importlib.util.spec_from_file_location(fullname, file)


def _execute(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        raise
    _imported[name] = str(path)
    return module


@contextlib.contextmanager
def _as_script(path: Path, directory: Path) -> Iterator[None]:
    if not sys.path or sys.path[0] != str(directory):
        sys.path.insert(0, str(directory))
    argv, write_nothing = sys.argv, sys.dont_write_bytecode
    sys.argv, sys.dont_write_bytecode = [str(path)], True
    try:
        yield
    finally:
        sys.argv, sys.dont_write_bytecode = argv, write_nothing


def lies_in(directory: Path, module: str) -> bool:
    """Tell whether an imported module is from a directory, and not from a package installed there."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file or not Path(file).is_relative_to(directory):
        return False
    return not {"site-packages", "dist-packages"} & set(Path(file).parts) and not module.startswith(
        "_dpaudit_"
    )
