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
from dpaudit.audit_report import write_whole
from dpaudit.claim_file import AuditSettings, ClaimFile, read_claim_file
from dpaudit.cli.options import HELP, PATH, claim_options, merge_flags, output_options
from dpaudit.cli.output import EXIT_CODES, emit, render, require_writable


@click.command(
    context_settings=HELP,
    epilog="Exit codes: 0 consistent, 1 refuted or unsupported, 2 wrong input, 3 inconclusive.",
)
@click.argument("target", required=False)
@click.option("--claim", "claim_path", type=PATH, help="Claim file (TOML); flags override its fields.")
@claim_options
@click.option("--steps", type=click.IntRange(min=1), help="Steps to watch; default: enough for a verdict.")
@click.option("--runs", type=click.IntRange(min=1), help="Watch several seeds: shows a fixed one.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the first run.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Cuts a bare sampler's stream in batches.")
@click.option("--significance", type=float, help="Family-wise error of the tests; default 0.001.")
@click.option("--save-trace", type=PATH, help="Also keep the trace (.npz). It is as sensitive as the data.")
@output_options
def command(
    target: str | None,
    claim_path: Path | None,
    form: str,
    output: Path | None,
    html: Path | None,
    save_trace: Path | None,
    exit_zero: bool,
    quiet: bool,
    verbose: bool,
    **flags: Any,
) -> int:
    """Test what a data loader really samples, and what epsilon that deserves.

    TARGET is my_loader.py, my_loader.py:name, my_loader.py:name(arg=1),
    package.module:name or trace.npz; a claim file may name it instead.
    """
    require_writable(output, html, save_trace)
    file = _claim_file(claim_path, target, flags)
    if file.target is None:
        raise click.UsageError("no TARGET: name a loader, or give a claim file that does.")
    with progress_bar("Watching batches", quiet) as progress:
        report = audit_loader(file, command=sys.argv, progress=progress, save_trace=save_trace)
    if html is not None:
        from dpaudit.report.html import to_html

        write_whole(html, to_html(report))
    emit(render(report, form, verbose=verbose, to_terminal=output is None), output)
    return 0 if exit_zero else EXIT_CODES[report.verdict.outcome]


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
