"""From a loader or a script to the draft of its claim file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dpaudit.errors import DpauditError, TargetError
from dpaudit.init.claim_template import Draft, Filled, literal
from dpaudit.init.script_facts import Found, ScriptFacts, read_script

if TYPE_CHECKING:
    from dpaudit.instrument import LoaderFacts

_DIRECT = ("epsilon", "delta", "noise_multiplier", "clip_norm", "epochs", "clipping")
"""Fields of the claim that a script states as they are."""


def draft_claim(target: str | None, directory: Path) -> Draft:
    """Find out what can be found without training: read the script, open the loader.

    Args:
      target: loader file, script, `file.py:name`, module or trace; None for an empty form.
      directory: of the claim file, which names the target from there.

    Raises:
      DpauditError: there is no such file, it is not Python, or its import fails while nothing in it
        says that it is a script of Opacus.
    """
    if target is None:
        return Draft(target=None, remarks=("Fill in what is claimed, and delete what is not.",))
    script = _read(target)
    loader, trouble = _open(target, script)
    is_script = loader is None and target.endswith(".py")
    named = loader.target if loader else target if is_script else _with_name(target, script)
    claim = {
        name: Filled(literal(one.value), one.where) for name, one in script.found.items() if name in _DIRECT
    }
    claim |= _of_sampling(script.found, loader.facts if loader else None, script.uses_opacus)
    claim |= _of_engine(script)
    return Draft(
        target=_from(directory, named),
        title=Path(target.partition(":")[0]).stem.replace("_", " "),
        is_script=is_script,
        claim=claim,
        remarks=tuple(_remarks(target, script, loader, trouble)),
    )


@dataclass(frozen=True, slots=True)
class _Loader:
    target: str
    facts: LoaderFacts


def _read(target: str) -> ScriptFacts:
    path = Path(target.partition(".py:")[0] + ".py" if ".py:" in target else target)
    if path.suffix != ".py":
        return ScriptFacts()
    try:
        return read_script(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror or error}") from error
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise TargetError(f"{path} is not Python: {error}") from error


def _open(target: str, script: ScriptFacts) -> tuple[_Loader | None, str]:
    """Find the loader, by the name that make_private returned it under if there is one."""
    from dpaudit.instrument import load_target, loader_facts
    from dpaudit.instrument.facts import LoaderFacts
    from dpaudit.trace import SamplingTrace

    spec = _with_name(target, script)
    try:
        found = load_target(spec, seed=0)
    except DpauditError as error:
        if not script.uses_opacus:
            raise
        return None, f"{error.message}. {error.hint}".rstrip()
    if isinstance(found.loader, SamplingTrace):
        return _Loader(spec, LoaderFacts(loader="trace file", num_records=found.loader.num_records)), ""
    return _Loader(spec, loader_facts(found.loader)), ""


def _with_name(target: str, script: ScriptFacts) -> str:
    return f"{target}:{script.private_loader}" if script.private_loader and target.endswith(".py") else target


def _of_sampling(
    found: Mapping[str, Found], facts: LoaderFacts | None, uses_opacus: bool
) -> dict[str, Filled]:
    """Give N and the sampling: Opacus accounts for Poisson sampling whatever its loader does."""
    filled: dict[str, Filled] = {}
    if facts is not None and facts.num_records:
        filled["num_records"] = Filled(literal(facts.num_records), "records of the loader's data set")
    why = (
        "Opacus accounts for Poisson sampling" if uses_opacus else "assumed: Poisson, as most accountants do"
    )
    size = facts.batch_size if facts else None
    if facts is not None and facts.sample_rate is not None:
        filled["scheme"] = Filled(
            f'{{ name = "poisson", rate = {literal(facts.sample_rate)} }}', "rate that the loader states"
        )
    elif uses_opacus and facts is not None and facts.steps_per_epoch:
        rate = literal(1 / facts.steps_per_epoch)
        filled["scheme"] = Filled(f'{{ name = "poisson", rate = {rate} }}', f"{why} at 1 / steps of an epoch")
    elif size is not None and "num_records" in filled:
        filled["scheme"] = Filled(f'{{ name = "poisson", batch_size = {size} }}', why)
    return filled


def _of_engine(script: ScriptFacts) -> dict[str, Filled]:
    if not script.uses_opacus:
        return {}
    accountant, secure = script.found.get("accountant"), script.found.get("secure_mode")
    filled = {"library": Filled('"opacus"', "make_private is called")}
    name = "prv" if accountant is None else str(accountant.value)
    filled["accountant"] = Filled(
        literal(f"opacus {name}"), "Opacus' default" if accountant is None else accountant.where
    )
    generator = "cryptographic" if secure is not None and secure.value else "torch, not cryptographic"
    filled["noise_generator"] = Filled(
        literal(generator), "Opacus' default" if secure is None else secure.where
    )
    return filled


def _remarks(target: str, script: ScriptFacts, loader: _Loader | None, trouble: str) -> list[str]:
    remarks = ["What was found is filled in; the other lines say what is missing. Check all of it."]
    if loader is not None:
        facts = loader.facts
        sampler = f", sampler {facts.sampler}" if facts.sampler else ""
        batches = f", batches of {facts.batch_size}" if facts.batch_size else ""
        remarks.append(f"Loader: {facts.loader}{sampler}{batches}.")
    if trouble:
        remarks.append(f"The loader could not be opened: {trouble}")
        remarks.append("So the whole program is run. To watch its loader alone, name what makes it:")
        remarks.append("target = 'train.py:make_loader()', without kind.")
    poisson, size = script.found.get("poisson_sampling"), script.found.get("batch_size")
    if poisson is not None and poisson.value is False:
        remarks.append(f"{poisson.where}: Poisson sampling is off, but Opacus' accountant assumes it.")
    if size is not None and loader is None:
        remarks.append(f"Batch size {size.value} ({size.where}): rate = {size.value} / num_records.")
    remarks += [f"Stated in several ways, so left out: {one}" for one in script.contradictions]
    return remarks


def _from(directory: Path, target: str) -> str:
    """Name a file from the claim file's directory; modules keep their name."""
    file, colon, name = target.partition(":")
    if not file.endswith((".py", ".npz")) or Path(file).is_absolute():
        return target
    return f"{Path(os.path.relpath(file, directory)).as_posix()}{colon}{name}"
