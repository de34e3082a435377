"""The terminal view of a private training, and of the clipping choices behind it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpaudit.interval import format_upper
from dpaudit.report.epsilon_table import label
from dpaudit.report.printable import printable

if TYPE_CHECKING:
    from dpaudit.audit.training_result import TrainingResult
    from dpaudit.dpsgd.clipping.choice import LayerChoice


def result_to_text(result: TrainingResult, *, width: int = 80) -> str:
    """Render what a training guarantees."""
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    console.print(Text(printable(result.title)))
    console.print()
    if result.claim is None or result.epsilon is None:
        console.print("Nothing was trained: no epsilon is spent.")
    else:
        upper = format_upper(result.epsilon.upper)
        console.print(f"Epsilon {upper} at delta {result.epsilon.delta:g} under {result.epsilon.adjacency}")
        _facts(console, result)
    for note in result.notes:
        console.print(Text(f"\n{printable(note)}"))
    return _trimmed(out)


def choices_to_text(choices: Mapping[str, LayerChoice], *, width: int = 80) -> str:
    """Render the route of each layer to its gradient norms, and what else was tried."""
    table = Table(box=None, pad_edge=False)
    longest = max(map(len, choices), default=0)
    table.add_column("parameter", overflow="fold", min_width=min(longest, width // 2))
    for column in ("route", "because", "candidates, milliseconds for norms and sum"):
        table.add_column(column)
    for name, choice in choices.items():
        times = ", ".join(f"{route} {1e3 * seconds:.3g}" for route, seconds in choice.seconds)
        table.add_row(printable(name), choice.route, choice.reason, times)
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    if choices:
        console.print(table)
    else:
        console.print("No layer has a choice: every gradient is computed in one way.")
    return _trimmed(out)


def _facts(console: Console, result: TrainingResult) -> None:
    claim = result.claim
    if claim is None or claim.scheme is None:
        return
    of = "" if claim.num_records is None else f" of {claim.num_records:,} records"
    rows = [
        ("sampling", f"{label(claim.scheme)}{of}"),
        ("noise", f"multiplier {claim.noise_multiplier or 0:.6g}, clip norm {claim.clip_norm:.6g}"),
        ("steps", f"{result.steps:,} of {result.planned_steps:,}: {result.stopped_by}"),
    ]
    if result.test_accuracy is not None:
        rows.append(("test accuracy", f"{result.test_accuracy:.2%} of {result.test_records:,} records"))
    if result.for_audit:
        rows.append(("purpose", "for an audit only"))
    table = Table.grid(padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _trimmed(out: io.StringIO) -> str:
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip() + "\n"
