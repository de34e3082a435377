"""What an Opacus training script claims, read off its syntax."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from dpaudit.init.constants import Constant, Constants, called, keywords

_MAKE_PRIVATE = ("make_private", "make_private_with_epsilon")
_POSITIONS: Mapping[str, tuple[str, ...]] = {
    "DataLoader": ("dataset", "batch_size", "shuffle"),
    "get_epsilon": ("delta",),
}
"""Arguments that are often given without their name."""
_FIELDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "make_private": (
        ("noise_multiplier", "noise_multiplier"),
        ("max_grad_norm", "clip_norm"),
        ("clipping", "clipping"),
        ("poisson_sampling", "poisson_sampling"),
    ),
    "make_private_with_epsilon": (
        ("target_epsilon", "epsilon"),
        ("target_delta", "delta"),
        ("epochs", "epochs"),
        ("max_grad_norm", "clip_norm"),
        ("clipping", "clipping"),
        ("poisson_sampling", "poisson_sampling"),
    ),
    "get_epsilon": (("delta", "delta"),),
    "DataLoader": (("batch_size", "batch_size"),),
    "PrivacyEngine": (("accountant", "accountant"), ("secure_mode", "secure_mode")),
}
"""Call -> (its argument, field of the claim or fact)."""
_EPOCH_NAMES = ("epochs", "num_epochs", "n_epochs", "max_epochs", "EPOCHS", "NUM_EPOCHS")


@dataclass(frozen=True, slots=True)
class Found:
    """A value with the place it stands at."""

    value: Constant
    where: str
    """"line 12, make_private(noise_multiplier=...)"."""


Facts: TypeAlias = Mapping[str, Found]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptFacts:
    """What a script states."""

    found: Facts = field(default_factory=dict)
    contradictions: tuple[str, ...] = ()
    """Sentences on values that the script states in several ways; they are left out of `found`."""
    private_loader: str = ""
    """Module-level name of the loader that make_private returned; "" where there is none."""
    uses_opacus: bool = False


def read_script(text: str) -> ScriptFacts:
    """Read the source of a script; nothing of it is executed.

    Raises:
      SyntaxError: it is not Python.
    """
    tree = ast.parse(text)
    constants = Constants(tree)
    stated: dict[str, list[Found]] = {}
    uses_opacus = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            uses_opacus |= called(node) in _MAKE_PRIVATE
            for name, found in _of_call(node, constants):
                stated.setdefault(name, []).append(found)
    if "epochs" not in stated:
        stated.update(_epochs(tree, constants))
    agreed = {name: places[0] for name, places in stated.items() if len({one.value for one in places}) == 1}
    return ScriptFacts(
        found=agreed,
        contradictions=tuple(
            f"{name}: " + ", ".join(f"{one.value} ({one.where})" for one in places)
            for name, places in stated.items()
            if name not in agreed
        ),
        private_loader=_private_loader(tree),
        uses_opacus=uses_opacus,
    )


def _of_call(node: ast.Call, constants: Constants) -> Iterator[tuple[str, Found]]:
    function = called(node)
    given = dict(zip(_POSITIONS.get(function, ()), node.args, strict=False)) | keywords(node)
    for argument, name in _FIELDS.get(function, ()):
        value = constants.value(given.get(argument))
        if value is not None and _fits(name, value):
            yield name, Found(value, f"line {node.lineno}, {function}({argument}=...)")


def _fits(name: str, value: Constant) -> bool:
    """Tell whether a value can be what its name says; what cannot is not what was looked for."""
    match name:
        case "poisson_sampling" | "secure_mode":
            return isinstance(value, bool)
        case "clipping" | "accountant":
            return isinstance(value, str)
        case "batch_size" | "epochs":
            return isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if isinstance(value, (bool, str)) or not math.isfinite(value):
        return False
    return 0 < value < 1 if name == "delta" else value > 0


def _epochs(tree: ast.Module, constants: Constants) -> Iterator[tuple[str, list[Found]]]:
    """Find a number of epochs that is only a name or an argument of the command line."""
    for name in _EPOCH_NAMES:
        for node in (ast.Name(id=name), ast.Attribute(value=ast.Name(id="args"), attr=name)):
            value = constants.value(node)
            if value is not None and _fits("epochs", value):
                yield "epochs", [Found(value, f"{name} of the script")]
                return


def _private_loader(tree: ast.Module) -> str:
    """Name the loader that make_private returned to the module: the third of what it gives."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Call() as call):
                if called(call) in _MAKE_PRIVATE and len(names) >= 3 and isinstance(names[-1], ast.Name):
                    return names[-1].id
    return ""
