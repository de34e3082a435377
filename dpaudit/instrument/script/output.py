"""Where the audited program's standard output goes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what is printed to standard error, by child processes too."""
    try:
        number = sys.stdout.fileno()
    except (OSError, io.UnsupportedOperation):  # not a file: a test, or a notebook
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    saved = os.dup(number)
    os.dup2(sys.stderr.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, number)
        os.close(saved)
