"""`dpaudit sampler`: from a data loader to a verdict and two epsilons."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dpaudit.audit.loader import Progress, audit_loader
from dpaudit.audit.program import ScriptFile
from dpaudit.audit_report import AuditReport, write_whole
from dpaudit.claim_file import AuditSettings, ClaimFile, read_claim_file
from dpaudit.cli.follow import follow_trace, live_program
from dpaudit.cli.options import HELP, PATH, claim_options, merge_flags, output_options
from dpaudit.cli.output import EXIT_CODES, emit, render, require_writable
from dpaudit.cli.program import audit_as_ranks

_PROGRAM_FAILED = 2
"""A program that ended in failure is wrong input, whatever could be seen of it."""


@click.command(
    context_settings=HELP,
    epilog="Exit codes: 0 consistent, 1 refuted or unsupported, 2 wrong input, 3 inconclusive.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[TARGET | -- ARGUMENTS...]")
@click.option("--script", help="Run this training script as it is, and audit what reaches its optimizer.")
@click.option("-m", "--module", help="The same for a module, as after python -m.")
@click.option("--strict", is_flag=True, help="Let a failure of the recording end the program.")
@click.option("--shared", type=PATH, help="Where ranks on several machines meet; all must reach it.")
@click.option(
    "--rank-timeout", type=click.FloatRange(min=0), default=600.0, help="Seconds to wait for other ranks."
)
@click.option("--claim", "claim_path", type=PATH, help="Claim file (TOML); flags override its fields.")
@claim_options
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Steps to watch; default: enough for a verdict, or the whole program.",
)
@click.option("--runs", type=click.IntRange(min=1), help="Watch several seeds: shows a fixed one.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the first run.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cuts a bare sampler's stream in batches.")
@click.option("--significance", type=float, help="Family-wise error of the tests; default 0.001.")
@click.option("--save-trace", type=PATH, help="Also keep the trace (.npz). It is as sensitive as the data.")
@click.option("--stream", type=PATH, help="Write the trace to this new directory as it grows, not to memory.")
@click.option(
    "--follow", is_flag=True, help="Test each step as it comes: of a growing trace directory, or of --script."
)
@click.option(
    "--stop-on", type=click.Choice(["refuted"]), help="With --follow: stop the program at that step."
)
@click.option("--patience", type=click.FloatRange(min=0), help="Seconds without news that end --follow.")
@output_options
def command(
    words: tuple[str, ...],
    script: str | None,
    module: str | None,
    strict: bool,
    shared: Path | None,
    rank_timeout: float,
    claim_path: Path | None,
    form: str,
    output: Path | None,
    html: Path | None,
    save_trace: Path | None,
    stream: Path | None,
    follow: bool,
    stop_on: str | None,
    patience: float | None,
    exit_zero: bool,
    quiet: bool,
    verbose: bool,
    **flags: Any,
) -> int:
    """Test what a data loader really samples, and what epsilon that deserves.

    TARGET is my_loader.py, my_loader.py:name, my_loader.py:name(arg=1),
    package.module:name, trace.npz or a trace directory; a claim file may
    name it instead.
    With --script or -m a whole training program runs as it is, with the
    ARGUMENTS after --, and the batches that reach its optimizer are tested
    against the claim that it makes itself. Ranks of a distributed training are
    joined: torchrun --nproc-per-node 2 -m dpaudit sampler --script train.py
    """
    require_writable(output, html, save_trace)
    if stop_on is not None and not follow:
        raise click.UsageError("--stop-on needs --follow.")

    def deliver(report: AuditReport, failed: str = "") -> int:
        if html is not None:
            from dpaudit.report.html import to_html

            write_whole(html, to_html(report))
        emit(render(report, form, verbose=verbose, to_terminal=output is None), output)
        code = 0 if exit_zero else EXIT_CODES[report.verdict.outcome]
        return code or (_PROGRAM_FAILED if failed else 0)

    if script is not None or module is not None:
        _refuse_for_programs(script, module, {**flags, "patience": patience})
        file = _claim_file(claim_path, script or module, flags)
        program = ScriptFile(file=file, arguments=words, is_module=module is not None)
        return audit_as_ranks(
            program,
            deliver,
            strict=strict,
            save_trace=save_trace,
            own_stdout=output is not None,
            shared=shared,
            rank_timeout=rank_timeout,
            stream=stream,
            live=live_program(quiet, stop_on is not None) if follow else None,
        )
    if stop_on is not None:
        raise click.UsageError("--stop-on needs --script: a trace directory cannot stop who writes it.")
    file = _claim_file(claim_path, _target(words), flags)
    if file.target is None:
        raise click.UsageError("no TARGET: name a loader, or give a claim file that does.")
    if follow:
        return deliver(follow_trace(file, quiet=quiet, patience=patience))
    return deliver(_audit_target(file, quiet, save_trace, stream))


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Progress | None]:
    """Show a bar on standard error while on a terminal; None where nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, wanted: bar.update(task, completed=done, total=wanted)


def _audit_target(file: ClaimFile, quiet: bool, save_trace: Path | None, stream: Path | None) -> AuditReport:
    with progress_bar("Watching batches", quiet) as progress:
        return audit_loader(file, command=sys.argv, progress=progress, save_trace=save_trace, stream=stream)


def _target(words: tuple[str, ...]) -> str | None:
    if len(words) > 1:
        raise click.UsageError(f"one TARGET at a time, not {' '.join(words)}; or --script with arguments.")
    return words[0] if words else None


def _refuse_for_programs(script: str | None, module: str | None, flags: dict[str, Any]) -> None:
    """Refuse what does not go with a program: it is run once, and draws its own randomness."""
    if script is not None and module is not None:
        raise click.UsageError("give --script or -m, not both.")
    for name in ("runs", "seed", "batch_size"):
        if flags.get(name) is not None:
            raise click.UsageError(f"--{name.replace('_', '-')} is not for a program, which seeds itself.")
    if flags.get("patience") is not None:
        raise click.UsageError("--patience is not for a program, whose end is known.")


def _claim_file(path: Path | None, target: str | None, flags: dict[str, Any]) -> ClaimFile:
    """Join the claim file, if any, with the flags; flags win."""
    if path is not None:
        file = read_claim_file(path)
    else:
        from dpaudit.claim import PrivacyClaim

        file = ClaimFile(path=None, claim=PrivacyClaim(), settings=AuditSettings())
    given = {
        name: flags.pop(name)
        for name in ("steps", "runs", "seed", "batch_size", "significance")
        if flags.get(name) is not None
    }
    return replace(
        file,
        claim=merge_flags(file.claim, {name: value for name, value in flags.items() if value is not None}),
        target=target or file.target,
        settings=replace(file.settings, **given),
    )
