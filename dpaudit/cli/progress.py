"""Progress bars on standard error, while somebody watches it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class AuditBars:
    """One bar for each audit that runs; nothing at all when quiet or not on a terminal."""

    def __init__(self, titles: Mapping[Path, str], quiet: bool) -> None:
        self._titles = titles
        self._tasks: dict[Path, Any] = {}
        self._bars: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bars = Progress(console=Console(stderr=True), transient=True)

    def __enter__(self) -> AuditBars:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def started(self, claim: Path) -> None:
        """Show a bar without an end."""
        if self._bars is not None:
            from rich.markup import escape

            from dpaudit.report.printable import printable

            title = escape(printable(self._titles.get(claim) or str(claim)))[:50]
            self._tasks[claim] = self._bars.add_task(title, total=None)

    def progress(self, claim: Path, done: int, wanted: int) -> None:
        """Move a bar."""
        if self._bars is not None:
            self._bars.update(self._tasks[claim], completed=done, total=wanted)

    def finished(self, claim: Path) -> None:
        """Take a bar away."""
        if claim in self._tasks:
            self._bars.remove_task(self._tasks.pop(claim))
