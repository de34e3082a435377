"""Programs that start their ranks themselves, as `torch.multiprocessing.spawn` does: their runs, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dpaudit.errors import DpauditError, TargetError
from dpaudit.instrument.script.children import Child
from dpaudit.instrument.script.claim_log import ReadClaim
from dpaudit.instrument.script.rank_part import part_of
from dpaudit.instrument.script.script_result import ScriptRun
from dpaudit.instrument.script.union import joint_run

_ONE = "Audit one training at a time, in a program that makes no other."
_BESIDE = (
    "Processes that the program started trained on the data set of the first one, or cannot be followed: "
    f"whether all are one training is not seen. {_ONE}"
)
_TORCHRUN = "Start the ranks by torchrun: torchrun --nproc-per-node K -m dpaudit sampler --script ..."


def run_of_all(
    own: ScriptRun | TargetError,
    children: Sequence[Child],
    claim: ReadClaim,
    ended: Sequence[str],
    stated: int | None,
) -> ScriptRun | TargetError:
    """Give the run of a training that the program made in processes of its own, or in the first one.

    Args:
      own: run of the first process, or why there is none.
      children: the others that are worth a word.
      claim: what the first process said of privacy.
      ended: how the program ended, where it failed.
      stated: N as the user gives it.

    Raises:
      DpauditError: a rank is lost, or the processes did not train together.
    """
    trained = [child.run for child in children if child.run is not None]
    if isinstance(own, TargetError):
        if not trained:
            return _with_deaths(own, children)
        runs = trained
    elif own.world == 1:
        return _with_others(own, children)
    else:
        runs = [own, *trained]
    runs.sort(key=lambda run: run.rank)
    _check_ranks(runs, children)
    first = runs[0]
    if first is own:
        return joint_run(first, [part_of(run) for run in runs], stated)
    notes = (
        f"The program started {len(trained)} processes that trained; told before is how one of them ended.",
        *ended,
        *(f"ATTENTION: {_name(child)}: {child.ending}." for child in children if child.ending),
    )
    first = replace(first, claim=_joined_claim(claim, first.claim), notes=(*first.notes, *notes))
    return first if len(runs) == 1 else joint_run(first, [part_of(run) for run in runs], stated)


def _check_ranks(runs: Sequence[ScriptRun], children: Sequence[Child]) -> None:
    """Refuse runs that are not those of all ranks of one training, each once."""
    for child in children:
        if child.problem is not None:
            message, hint = child.problem
            raise DpauditError(f"{_name(child)}: {message}", hint)
    world = max(run.world for run in runs)
    if any(run.world != world for run in runs) or (world == 1 and len(runs) > 1):
        told = "joined no process group of torch" if world == 1 else "joined different process groups"
        raise DpauditError(f"{len(runs)} processes of the program trained side by side: they {told}", _ONE)
    ranks = [run.rank for run in runs]
    twice = sorted({rank for rank in ranks if ranks.count(rank) > 1})
    if twice:
        raise DpauditError(
            "the program trained several times in processes of its own: "
            f"{ranks.count(twice[0])} of them were rank {twice[0]}",
            _ONE,
        )
    for rank in range(world):
        if rank not in ranks:
            lost = next((child for child in children if child.rank == rank), None)
            why = "no process of it was seen" if lost is None else lost.ending or "it made no optimizer step"
            raise DpauditError(f"rank {rank} of {world} left no trace: {why}", _TORCHRUN)


def _with_deaths(own: TargetError, children: Sequence[Child]) -> TargetError:
    """Tell of processes of which nothing but their end is known."""
    for child in children:
        if child.problem is not None:
            message, hint = child.problem
            return TargetError(f"{_name(child)}: {message}", hint)
    deaths = " ".join(f"{_name(child)} left no trace: {child.ending}." for child in children if child.ending)
    return TargetError(f"{own.message} {deaths}", own.hint) if deaths else own


def _with_others(own: ScriptRun, children: Sequence[Child]) -> ScriptRun:
    """Tell of processes that trained beside the first one; they may have made most of its training."""
    trained = [child.run for child in children if child.run is not None]
    lost = [child for child in children if child.problem is not None]
    if not trained and not lost:
        return own
    note = f"Not audited: {len(trained) + len(lost)} processes that the program started trained too."
    steps = sum(run.main.recording.trace.steps for run in trained if _one_data_set(run, own))
    beside = lost or 2 * steps >= own.main.recording.trace.steps
    return replace(own, notes=(*own.notes, note), doubt=own.doubt or (_BESIDE if beside else ""))


def _one_data_set(run: ScriptRun, own: ScriptRun) -> bool:
    one, other = run.main.recording, own.main.recording
    return (one.facts.dataset, one.trace.num_records) == (other.facts.dataset, other.trace.num_records)


def _name(child: Child) -> str:
    rank = "" if child.rank is None else f", rank {child.rank},"
    return f"process {child.number}{rank} of those that the program started"


def _joined_claim(first: ReadClaim, rank: ReadClaim) -> ReadClaim:
    """Give what rank 0 said, and before it what the first process did; the later one holds."""
    return replace(
        rank,
        engines=(*first.engines, *rank.engines),
        calibrations=(*first.calibrations, *rank.calibrations),
        accounted=rank.accounted or first.accounted,
        stated=(*first.stated, *rank.stated),
        noise=(*first.noise, *rank.noise),
        accountant=rank.accountant or first.accountant,
        library=rank.library or first.library,
        unread=tuple(dict.fromkeys((*first.unread, *rank.unread))),
    )
