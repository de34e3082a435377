"""What one rank tells the others: its trace, and what must agree before traces are put together."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import DpauditError, TraceError
from dpaudit.instrument.script.launch import Ending, How
from dpaudit.instrument.script.script_result import ScriptRun
from dpaudit.trace import SamplingTrace

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFacts:
    """What is told beside the trace; `error` alone where nothing could be recorded."""

    error: str = ""
    hint: str = ""
    steps: int = 0
    """Optimizer steps, with those that no batch went into."""
    optimizer: str = ""
    dataset: str = ""
    method: str = ""
    how: str = How.FINISHED.value
    message: str = ""
    sample: tuple[int, ...] | None = None
    """Marks of some records' content; None: cannot be read twice alike."""
    in_group: bool = False
    data_parallel: bool = False
    unjudgeable: str = ""
    """Why no verdict can be given."""
    doubt: str = ""
    """Why it cannot be called consistent."""

    @property
    def ending(self) -> Ending:
        """How the program of this rank ended."""
        return Ending(How(self.how), self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPart:
    """What one rank saw."""

    facts: RankFacts
    trace: SamplingTrace
    step_numbers: IntArray
    """Optimizer step of each row of the trace, shape (rows,)."""
    names: IntArray | None
    """What each record is called on every rank, shape (N,); None: record i is row i."""


def part_of(run: ScriptRun) -> RankPart:
    """Give what the run of this rank has to tell."""
    main = run.main
    facts = main.recording.facts
    return RankPart(
        facts=RankFacts(
            steps=run.steps,
            optimizer=main.optimizer,
            dataset=facts.dataset or facts.loader,
            method=main.recording.method.value,
            how=run.ending.how.value,
            message=run.ending.message,
            sample=main.sample,
            in_group=run.in_group,
            data_parallel=run.data_parallel,
            unjudgeable=run.unjudgeable,
            doubt=run.doubt,
        ),
        trace=main.recording.trace,
        step_numbers=main.step_numbers,
        names=main.recording.names,
    )


def leave(path: Path, content: RankPart | DpauditError) -> None:
    """Write what a rank saw, or why it saw nothing: whole, or not at all."""
    arrays: dict[str, Any] = {}
    if isinstance(content, DpauditError):
        facts = RankFacts(error=content.message, hint=content.hint)
    else:
        facts, trace = content.facts, content.trace
        arrays = {
            "indices": trace.indices,
            "offsets": trace.offsets,
            "num_records": np.int64(trace.num_records),
            "by_appearance": np.bool_(trace.numbered_by_appearance),
            "step_numbers": content.step_numbers,
        }
        optional = {"epoch_starts": trace.epoch_starts, "names": content.names}
        arrays |= {name: value for name, value in optional.items() if value is not None}
    arrays["facts"] = np.frombuffer(json.dumps(asdict(facts)).encode(), np.uint8)
    unfinished = path.with_name(f"{path.name}.new")
    with unfinished.open("wb") as file:
        np.savez(file, **arrays)
    os.replace(unfinished, path)


def collect(path: Path, rank: int) -> RankPart:
    """Read what a rank left.

    Raises:
      DpauditError: it saw nothing (says why), or the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        told = json.loads(arrays["facts"].tobytes())
        sample = told.pop("sample")
        facts = RankFacts(**told, sample=None if sample is None else tuple(sample))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TraceError(f"what rank {rank} left cannot be read: {error}") from error
    if facts.error:
        raise DpauditError(f"rank {rank}: {facts.error}", facts.hint)
    trace = SamplingTrace(
        indices=arrays["indices"],
        offsets=arrays["offsets"],
        num_records=arrays["num_records"].item(),
        epoch_starts=arrays.get("epoch_starts"),
        numbered_by_appearance=bool(arrays["by_appearance"]),
    )
    return RankPart(facts=facts, trace=trace, step_numbers=arrays["step_numbers"], names=arrays.get("names"))
