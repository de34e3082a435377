"""Make a string from the user safe to show: nothing in it may steer a terminal or reorder a line."""

from __future__ import annotations

import re
from typing import Any

# Control characters; the bidirectional overrides that can make a line read other than it is; lone
# surrogates (of file names) and non-characters, which neither UTF-8 nor XML can hold.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    """Replace every steering character by the replacement character U+FFFD."""
    return _STEERING.sub("\ufffd", text)


def printable_value(value: Any) -> Any:
    """Clean strings, leave everything else alone, our own markup included."""
    return printable(value) if type(value) is str else value
