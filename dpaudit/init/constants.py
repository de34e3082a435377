"""Values that a script states, read from its syntax alone; nothing of it is executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping

Number = int | float
Constant = Number | str | bool

_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


class Constants:
    """Names that a script gives one value, and defaults of its command line arguments.

    A name that is assigned twice, or anything but a number, a text or a truth value, is not known.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._names: dict[str, list[ast.expr | None]] = {}
        self._defaults: dict[str, ast.expr | None] = {}
        for node in ast.walk(tree):
            self._assignment(node)
            if isinstance(node, ast.Call) and called(node) == "add_argument":
                self._argument(node)

    def value(self, node: ast.expr | None, depth: int = 0) -> Constant | None:
        """Give the value of an expression; None where the syntax does not tell it."""
        if node is None or depth > 20:  # names may go round in circles
            return None
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = self.value(operand, depth + 1)
                return -inner if isinstance(inner, (int, float)) else None
            case ast.Name(id=name):
                known = self._names.get(name, [])
                return self.value(known[0], depth + 1) if len(known) == 1 else None
            case ast.Attribute(value=ast.Name(), attr=name):
                return self.value(self._defaults.get(name), depth + 1)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._combined(left, op, right, depth)
        return None

    def _combined(self, left: ast.expr, op: ast.operator, right: ast.expr, depth: int) -> Constant | None:
        one, other = self.value(left, depth + 1), self.value(right, depth + 1)
        if not isinstance(one, (int, float)) or not isinstance(other, (int, float)):
            return None
        try:
            return _OPERATORS[type(op)](one, other)
        except (ArithmeticError, ValueError):
            return None

    def _assignment(self, node: ast.AST) -> None:
        """Note what a statement assigns; a value that is not told counts as one more."""
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        match node:
            case ast.Assign():
                targets, value = node.targets, node.value
            case ast.AnnAssign() | ast.NamedExpr():
                targets, value = [node.target], node.value
            case ast.AugAssign() | ast.For() | ast.comprehension():
                targets = [node.target]
            case ast.arg(arg=name):
                self._names.setdefault(name, []).append(None)
        for target in targets:
            if isinstance(target, ast.Name):
                self._names.setdefault(target.id, []).append(value)
            else:
                for inner in ast.walk(target):
                    if isinstance(inner, ast.Name):
                        self._names.setdefault(inner.id, []).append(None)

    def _argument(self, node: ast.Call) -> None:
        flags = [flag for flag in map(self.value, node.args) if isinstance(flag, str)]
        name = next((flag.lstrip("-") for flag in flags if flag.startswith("--")), "")
        named = keywords(node)
        stated = self.value(named.get("dest"))
        key = (
            stated if isinstance(stated, str) else (name or "".join(flags[:1]).lstrip("-")).replace("-", "_")
        )
        # Two parsers with one name: which of them is meant is not told.
        self._defaults[key] = None if key in self._defaults else named.get("default")


def called(node: ast.Call) -> str:
    """Give the last part of the name of what is called: "make_private" of `engine.make_private(...)`."""
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def keywords(node: ast.Call) -> dict[str, ast.expr]:
    """Give the arguments of a call that have a name."""
    return {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
