"""The errors that a user of dpaudit can cause.

    DpauditError            message and hint, exit code 2
    ├── ClaimError          the claim (TOML, flags) is wrong or incomplete
    ├── TraceError          a sampling trace cannot be read or is malformed
    ├── TargetError         the loader or script to audit cannot be found or is ambiguous
    ├── UserCodeError       the audited code itself raised; carries its own traceback
    └── SamplingRefutedError    a loader that is tested as it runs is not what its claim says

Pure functions raise ValueError with the offending value; everything here is caught by the
command line and printed as one readable message.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DpauditError(Exception):
    """Something that the user can put right.

    Args:
      message: what is wrong, one sentence, naming the offending thing.
      hint: what to do about it; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ClaimError(DpauditError):
    """A privacy claim that is malformed, contradictory or lacks a needed field."""


class TraceError(DpauditError):
    """A sampling trace that cannot be read or breaks its own rules."""


class TargetError(DpauditError):
    """A loader, file or object that cannot be found, or that is ambiguous."""


class UserCodeError(DpauditError):
    """An exception raised by the audited code.

    Args:
      message: what dpaudit was doing when the code failed.
      user_traceback: the formatted traceback, without frames of dpaudit.
      hint: what to do about it.
    """

    def __init__(self, message: str, user_traceback: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.user_traceback = user_traceback


class SamplingRefutedError(DpauditError):
    """The batches of a loader under `dpaudit.watch(..., stop_on="refuted")` refute its claim.

    Raised in the training loop in place of the batch that settled it.
    """


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Say which known name an unknown one probably meant; the empty string when none is near."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""
