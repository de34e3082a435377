"""`dpaudit train`: the reference DP-SGD, from a training file to a model and the claim it deserves."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpaudit.audit_report import dump_json, write_whole
from dpaudit.cli.options import HELP, PATH
from dpaudit.cli.output import emit, require_writable
from dpaudit.errors import DpauditError
from dpaudit.training_file import DEMO, TrainingFile, interpret, read_training_file

if TYPE_CHECKING:
    from dpaudit.audit.training import Training
    from dpaudit.audit.training_result import TrainingResult
    from dpaudit.dpsgd import StepReport

# Epsilon along the way is computed for at most so many places of the bar.
_EPSILONS_SHOWN = 40


@click.command(
    context_settings=HELP,
    epilog="Exit codes: 0 done, 2 wrong input, 130 interrupted (the checkpoint is whole).",
)
@click.argument("config", required=False, type=PATH)
@click.option("--explain", is_flag=True, help="Show the clipping route of each layer; train nothing.")
@click.option("--target-epsilon", type=float, help="Calibrate the noise for this epsilon.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps of the whole training.")
@click.option(
    "--seed", type=click.IntRange(min=0), help="Repeatable; the noise is then secret only if it is."
)
@click.option("--checkpoint", type=PATH, help="State of the training, as secret as the data.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint.")
@click.option("--model-out", type=PATH, help="The trained parameters, which may be released.")
@click.option("--claim-out", type=PATH, help="The claim, as a file for `dpaudit sampler --claim`.")
@click.option("--record-trace", type=PATH, help="The batches that were trained on (.npz); secret.")
@click.option("--format", "form", type=click.Choice(("text", "json")), default="text")
@click.option("-o", "--output", type=PATH, help="Write there instead of standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def command(
    config: Path | None,
    explain: bool,
    checkpoint: Path | None,
    resume: bool,
    model_out: Path | None,
    claim_out: Path | None,
    record_trace: Path | None,
    form: str,
    output: Path | None,
    quiet: bool,
    **overrides: Any,
) -> int:
    """Train by DP-SGD, and say what epsilon that deserves.

    CONFIG is a training file (TOML); without one, a demo on handwritten digits
    is trained, in seconds.
    """
    file = _overridden(read_training_file(config) if config else interpret(_demo(), None), **overrides)
    checkpoint = checkpoint or _checkpoint_of(file)
    require_writable(checkpoint, model_out, claim_out, record_trace, output)
    if checkpoint is not None and checkpoint.exists() and not (resume or explain):
        raise DpauditError(
            f"{checkpoint} exists: its training has spent epsilon on these records",
            "Go on from it with --resume, or name another with --checkpoint.",
        )
    from dpaudit.audit import training as trainings

    training = trainings.prepare(file, checkpoint=checkpoint, record=record_trace is not None)
    if explain:
        from dpaudit.cli.training_text import choices_to_text

        emit(choices_to_text(trainings.explain_clipping(training)), output)
        return 0
    if resume:
        from dpaudit.audit import training_checkpoint

        training_checkpoint.resume(training)
    finished = _run(training, quiet=quiet)
    if record_trace is not None:
        trainings.trace_of(training).save(record_trace)
    if not finished:
        kept = "Nothing is kept." if checkpoint is None else f"Go on from {checkpoint} with --resume."
        click.echo(f"Stopped after step {training.trainer.steps}. {kept}", err=True)
        raise KeyboardInterrupt
    _conclude(training, model_out, claim_out, record_trace, form=form, output=output)
    _tell_refused(training, quiet)
    return 0


def _demo() -> dict[str, Any]:
    import tomllib

    return tomllib.loads(DEMO)


def _overridden(
    file: TrainingFile, target_epsilon: float | None, steps: int | None, seed: int | None
) -> TrainingFile:
    settings = file.training
    if target_epsilon is not None:
        if not 0 < target_epsilon < float("inf"):
            raise click.UsageError(f"--target-epsilon {target_epsilon}: expected a number above 0")
        settings = replace(settings, target_epsilon=target_epsilon, noise_multiplier=None)
    if steps is not None:
        settings = replace(settings, steps=steps)
    if seed is not None:
        settings = replace(settings, seed=seed)
    return replace(file, training=settings)


def _checkpoint_of(file: TrainingFile) -> Path | None:
    """Give the path of the file's checkpoint; a training file that names none has one beside it."""
    if file.path is None:
        return None
    if file.training.checkpoint is None:
        return file.path.with_suffix(".checkpoint.pt")
    return file.path.parent / file.training.checkpoint


def _run(training: Training, *, quiet: bool) -> bool:
    from dpaudit.audit.training import train

    with _step_bar(training, quiet) as watch, _soft_interrupt() as interrupted:
        return train(training, watch=watch, interrupted=interrupted)


@contextmanager
def _soft_interrupt() -> Iterator[Callable[[], bool]]:
    """Let a first Ctrl-C wait for the end of the step; a second one does not."""
    asked = False

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _step_bar(training: Training, quiet: bool) -> Iterator[Callable[[StepReport], None]]:
    """Show step, loss and epsilon on a terminal: for who may see the data, as the loss has no noise."""
    if quiet or not sys.stderr.isatty():
        yield lambda report: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    total = training.plan.steps
    stride = max(1, total // _EPSILONS_SHOWN)
    epsilon = ""
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, completed=training.trainer.steps)

        def watch(report: StepReport) -> None:
            nonlocal epsilon
            if report.step % stride == 0 or not epsilon:
                epsilon = f"epsilon {training.plan.epsilon_after(report.step).upper:.3f}"
            bar.update(task, completed=report.step, description=f"loss {report.loss:.4f}  {epsilon}")

        yield watch


def _conclude(
    training: Training,
    model_out: Path | None,
    claim_out: Path | None,
    record_trace: Path | None,
    *,
    form: str,
    output: Path | None,
) -> None:
    from dpaudit.audit.training_result import conclude

    result = conclude(training)
    if model_out is not None:
        from dpaudit.dpsgd.checkpoint import save_state

        save_state(training.trainer.private.engine.model.state_dict(), model_out)
    if claim_out is not None and result.claim is not None:
        from dpaudit.claim_text import claim_file_text

        target = None if record_trace is None else os.path.relpath(record_trace, claim_out.parent)
        write_whole(claim_out, claim_file_text(result.claim, title=result.title, target=target))
    emit(_rendered(result, form, training.file), output)


def _rendered(result: TrainingResult, form: str, file: TrainingFile) -> str:
    if form == "json":
        from dpaudit.provenance import collect

        inputs = [] if file.path is None else [file.path]
        made = collect(command=sys.argv, seed=file.training.seed, inputs=inputs)
        return dump_json(result.to_json() | {"provenance": made.to_json()})
    from dpaudit.cli.training_text import result_to_text

    return result_to_text(result)


def _tell_refused(training: Training, quiet: bool) -> None:
    """Say on standard error what is not private, and so is no part of the result."""
    refused = training.trainer.private.refused
    if refused and not quiet:
        click.echo(f"{refused} times a record added nothing: its gradient was not finite.", err=True)
        click.echo("This count has no noise: keep it to yourself.", err=True)
