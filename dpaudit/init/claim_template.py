"""The text of a first claim file: what was found is filled in, the rest is a line that says what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dpaudit.report.printable import printable

_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("epsilon", "8.0", "the epsilon that is claimed, in nats; without it, that of the numbers below"),
    ("delta", "1e-5", "the delta that is claimed, well below 1 / num_records"),
    ("adjacency", '"add_or_remove_one"', 'what neighbours differ in; or "replace_one", "zero_out"'),
    ("unit", '"record"', 'unit of privacy: "record", "user" ...'),
    ("noise_multiplier", "1.0", "standard deviation of the noise over the clip norm"),
    ("clip_norm", "1.0", "largest gradient norm of one record"),
    ("epochs", "10", "epochs of the whole training; or steps = optimizer steps"),
    ("num_records", "60000", "size of the training set"),
    ("scheme", '{ name = "poisson", rate = 0.01 }', "the sampling that the accountant assumed"),
    ("accountant", '"opacus prv"', "library and method that gave epsilon"),
    ("clipping", '"flat"', 'or "per_layer" ...'),
    ("released", '"final_model"', 'what leaves the training; or "all_iterates"'),
    ("data_accesses", '"training only"', "which accesses to the data are covered: tuning, preprocessing ..."),
    ("secret_sample", "true", "whether it stays secret which records were in which batch"),
    ("noise_generator", '"torch, not cryptographic"', "generator of the noise"),
    ("floating_point", '"float32, no mitigation"', "number format of the noise"),
    ("trust_model", '"central"', 'or "local", "distributed"'),
    ("library", '"opacus 1.5"', 'or "custom"'),
)
"""Field of the claim, an example, what it means."""
_AUDIT: tuple[tuple[str, str, str], ...] = (
    ("steps", "1000", "steps to watch in each run; default: enough for a verdict"),
    ("runs", "2", "seeds to watch: two show a sampler that ignores its seed"),
    ("seed", "0", "of the first run"),
    ("significance", "1e-3", "probability of a false accusation"),
)
_OF_SCRIPTS = ("steps", "significance")


@dataclass(frozen=True, slots=True)
class Filled:
    """A field of the claim as it goes into the file."""

    toml: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """All that is known when a claim file is begun."""

    target: str | None
    """As the file shall name it, relative to itself; None leaves a line to fill in."""
    title: str = ""
    is_script: bool = False
    """Whether the target is a whole program, to be run to its end."""
    claim: Mapping[str, Filled] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """What a reader should know first: the loader that was found, contradictions."""


def literal(value: str | float | bool) -> str:
    """Write a value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(printable(value), ensure_ascii=False).replace("\x7f", "")
    return repr(value)


def render(draft: Draft) -> str:
    """Write the claim file."""
    lines = [f"# {_one_line(remark)}" for remark in draft.remarks]
    lines += [""] if lines else []
    lines += ['kind = "script"  # the target is run as it is, its training too'] if draft.is_script else []
    lines += [f"title = {literal(draft.title)}"] if draft.title else []
    if draft.target is None:
        lines.append('# target = "my_loader.py:train_loader"  # the loader to audit, relative to this file')
    else:
        lines.append(f"target = {literal(draft.target)}")
    lines += ['# expected = "consistent"  # fail unless the audit reaches this verdict', "", "[claim]"]
    lines += _table(_FIELDS, draft.claim)
    audit = tuple(row for row in _AUDIT if not draft.is_script or row[0] in _OF_SCRIPTS)
    lines += ["", "[audit]", *_table(audit, {})]
    return "\n".join(lines) + "\n"


def _table(fields: tuple[tuple[str, str, str], ...], filled: Mapping[str, Filled]) -> Iterator[str]:
    for name, example, meaning in fields:
        if name in filled:
            yield f"{name} = {filled[name].toml}  # {_one_line(filled[name].why)}"
        else:
            yield f"# {name} = {example}  # {meaning}"


def _one_line(text: str) -> str:
    """Keep a comment on its line, whatever is in it."""
    return re.sub(r"\s+", " ", printable(text)).strip()
