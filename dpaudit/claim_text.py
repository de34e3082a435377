"""Writing a claim file."""

from __future__ import annotations

import json
from typing import Any

from dpaudit.claim import PrivacyClaim


def claim_file_text(claim: PrivacyClaim, *, title: str = "", target: str | None = None) -> str:
    """Give the TOML of a claim file, as `read_claim_file` reads it.

    Args:
      claim: what is claimed.
      title: of the audit.
      target: loader or trace, its path relative to the file's directory.
    """
    head = {"title": title or None, "target": target}
    lines = [f"{key} = {_value(value)}" for key, value in head.items() if value is not None]
    lines += ["", "[claim]", *(f"{key} = {_value(value)}" for key, value in claim.to_json().items())]
    return "\n".join(lines).lstrip() + "\n"


def _value(value: Any) -> str:
    """Write one value; a float keeps all its digits. TOML's basic strings are JSON's, but for DEL."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(part)}" for key, part in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value).replace("\x7f", "\\u007f")
