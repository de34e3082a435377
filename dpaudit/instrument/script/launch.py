"""Run a program the way `python file.py` and `python -m module` run it, inside this process."""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from dpaudit.errors import TargetError, nearest_name
from dpaudit.instrument.importing import lies_in
from dpaudit.instrument.script.session import Stop
from dpaudit.instrument.usercode import user_traceback


@dataclass(frozen=True, slots=True)
class Program:
    """What is run: a file, or a module as after `python -m`, with its own arguments."""

    name: str
    """Path of the file, or dotted name of the module."""
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    def __str__(self) -> str:
        """Give it as one would type it after `python`."""
        return " ".join([*(["-m"] if self.is_module else []), self.name, *self.arguments])


class How(Enum):
    """How a program came to its end."""

    FINISHED = "finished"
    EXITED = "exited"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a program."""

    how: How
    message: str = ""
    """What it raised, in one line, or its exit status."""
    traceback: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the program would have told its shell of a failure."""
        return self.how is How.FAILED or (self.how is How.EXITED and self.message not in ("", "0", "None"))


def run_program(program: Program) -> tuple[Ending, ModuleType]:
    """Run a program as `__main__`, with its own `sys.argv` and `sys.path[0]`.

    `sys.exit` and exceptions end it as they would end the interpreter, but for this process. A child
    that the program forks, and that comes to the end of the program, exits there.

    Returns:
      How it ended, and its main module.

    Raises:
      TargetError: no such file or module, or not Python.
      SystemExit: in a forked child.
    """
    code, module, (first_argument, first_path) = _prepared(program)
    parent = os.getpid()
    try:
        with _as_main(module, [first_argument, *program.arguments], first_path):
            ending = _executed(code, module)
    finally:
        sys.stdout.flush()
    if os.getpid() != parent:
        _leave_child(ending)
    return ending, module


def _executed(code: CodeType, module: ModuleType) -> Ending:
    try:
        exec(code, module.__dict__)
    except Stop:
        return Ending(How.STOPPED)
    except SystemExit as error:
        if isinstance(error.code, str):  # as the interpreter does
            print(error.code, file=sys.stderr)
        return Ending(How.EXITED, "" if error.code is None else str(error.code))
    except BaseException as error:  # an interrupt too: what was seen until then is still worth its report
        text = user_traceback(error)
        print(text, file=sys.stderr)
        return Ending(How.FAILED, f"{type(error).__name__}: {error}", text)
    return Ending(How.FINISHED)


def _leave_child(ending: Ending) -> None:
    if ending.how is How.EXITED:
        raise SystemExit(int(ending.message) if ending.message.isdigit() else int(ending.is_failure))
    raise SystemExit(int(ending.is_failure))


def _prepared(program: Program) -> tuple[CodeType, ModuleType, list[str]]:
    """Compile the program, make its main module, and give `sys.argv[0]` and `sys.path[0]`."""
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    if program.is_module:
        spec, code = _find_module(program.name)
        values: dict[str, Any] = {
            "__spec__": spec,
            "__package__": spec.parent,
            "__file__": spec.origin,
            "__loader__": spec.loader,
        }
        places = [str(spec.origin), str(Path.cwd())]
    else:
        path = _existing(program.name)
        code = _compiled(path)
        values = {"__spec__": None, "__package__": None, "__file__": str(path.absolute()), "__cached__": None}
        places = [program.name, str(path.resolve().parent)]
    module.__dict__.update(values)
    return code, module, places


def _existing(name: str) -> Path:
    path = Path(name)
    if path.is_dir():
        raise TargetError(f"{name} is a directory, not a script", "Name its file, or run a package with -m.")
    if not path.exists():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest_name(path.name, beside) or "Give the path as after `python`; its arguments after `--`."
        raise TargetError(f"no such script: {name}", hint)
    return path


def _compiled(path: Path) -> CodeType:
    try:
        with io.open_code(str(path.resolve())) as file:
            return compile(file.read(), str(path.absolute()), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise TargetError(f"{path} is not Python: {error}", "Give the training script itself.") from error
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror or error}") from error


def _find_module(name: str) -> tuple[Any, CodeType]:
    where = str(Path.cwd())
    sys.path.insert(0, where)  # as for `python -m`; parents of the module are imported on the way
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError) as error:
        raise TargetError(f"there is no module {name!r}: {error}", "Give it as after `python -m`.") from error
    finally:
        sys.path.remove(where)
    loader: Any = None if spec is None else spec.loader
    code = loader.get_code(spec.name) if spec is not None and hasattr(loader, "get_code") else None
    if spec is None or code is None:
        raise TargetError(f"there is no module {name!r} to run", "Give it as after `python -m`.")
    return spec, code


@contextlib.contextmanager
def _as_main(module: ModuleType, argv: list[str], first_path: str) -> Iterator[None]:
    main, old_argv, old_path, known = sys.modules["__main__"], sys.argv, sys.path[:], set(sys.modules)
    sys.modules["__main__"] = module
    sys.argv = argv
    sys.path.insert(0, first_path)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        sys.argv = old_argv
        sys.path[:] = old_path
        for name in sys.modules.keys() - known:  # the next program finds helpers of its own
            if name.partition(".")[0] != "dpaudit" and lies_in(Path(first_path), name):
                del sys.modules[name]
