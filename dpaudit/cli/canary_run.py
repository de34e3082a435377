"""`dpaudit canary-run`: train with canaries, and bound epsilon from below."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpaudit.audit_report import AuditReport, dump_json, write_whole
from dpaudit.cli.options import HELP, PATH, claim_options, merge_flags, output_options
from dpaudit.cli.output import EXIT_CODES, emit, render, require_writable
from dpaudit.cli.sampler import progress_bar
from dpaudit.errors import DpauditError

if TYPE_CHECKING:
    from dpaudit.audit.canary_file import CanaryFile
    from dpaudit.canary import Attempt
    from dpaudit.claim import PrivacyClaim

# Where the demo leaves its reports, and where runs are kept until their audit is done.
_REPORTS, _RUNS = Path("reports"), Path(".dpaudit") / "runs"
_SETTINGS = ("runs", "steps", "model", "significance", "fault", "seed", "jobs")


@click.command(
    "canary-run",
    context_settings=HELP,
    epilog="Exit codes: 0 consistent, 1 refuted or unsupported, 2 wrong input, 3 inconclusive.",
)
@click.argument("file", required=False, type=PATH)
@click.option("--scores", type=PATH, help="Audit these canary scores (.npz, .csv) instead of training.")
@click.option("--claim", "claim_path", type=PATH, help="Claim file (TOML) for --scores; flags override it.")
@claim_options
@click.option("--model", type=click.Choice(["mlp", "cnn"]), help="Model of the demo; default mlp.")
@click.option("--runs", type=click.IntRange(min=1), help="Training runs, each with coins of its own.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of each run; default: as claimed.")
@click.option("--seed", type=click.IntRange(min=0), help="Default: drawn from the system, and reported.")
@click.option("--fault", help="Switch a fault of the reference DP-SGD on, to see it caught: half_noise, ...")
@click.option("--significance", type=float, help="Chance that a true claim is refuted; default 0.001.")
@click.option("--sequential", type=PATH, help="Count attempts in this file, so that reruns cannot go green.")
@click.option("--jobs", type=click.IntRange(min=0), help="Processes; default: one for each processor.")
@click.option("--runs-dir", type=PATH, help="Keeps finished runs until the audit is done; it goes on there.")
@output_options
def command(
    file: Path | None,
    scores: Path | None,
    claim_path: Path | None,
    sequential: Path | None,
    runs_dir: Path | None,
    form: str,
    output: Path | None,
    html: Path | None,
    exit_zero: bool,
    quiet: bool,
    verbose: bool,
    **flags: Any,
) -> int:
    """Train with canaries, and bound epsilon from below.

    FILE is a canary file (TOML). Without one the reference DP-SGD is audited
    on handwritten digits, in less than two minutes on two processors; JSON
    and HTML reports are left under reports/.
    """
    require_writable(output, html, sequential)
    if scores is not None and file is not None:
        raise click.UsageError("FILE trains, --scores does not: give one of them.")
    level = _Level(sequential, flags.get("significance"))
    if scores is not None:
        report = _audit_scores(scores, claim_path, flags, level)
    else:
        if claim_path is not None:
            raise click.UsageError("--claim goes with --scores; a canary FILE holds its own claim.")
        report = _audit_runs(_canary_file(file, flags), level, runs_dir or _kept_beside(file), quiet)
    report = level.settle(report)
    _leave(report, html, demo=scores is None and file is None and output is None and html is None)
    emit(render(report, form, verbose=verbose, to_terminal=output is None), output)
    return 0 if exit_zero else EXIT_CODES[report.verdict.outcome]


class _Level:
    """The error of this run: its own, or what an error budget over reruns leaves for it."""

    def __init__(self, path: Path | None, significance: float | None) -> None:
        self._path, self._significance = path, significance
        self._attempt: Attempt | None = None

    def begin(self, default: float) -> float:
        """Give the level of this attempt, counted before anything is looked at."""
        significance = self._significance or default
        if not 0 < significance <= 0.5:
            raise DpauditError(f"significance = {significance!r} must be in (0, 0.5]")
        if self._path is None:
            return significance
        from dpaudit.canary import begin_attempt

        self._attempt = begin_attempt(self._path, significance)
        return self._attempt.level

    def settle(self, report: AuditReport) -> AuditReport:
        """Write down how the attempt ended; a refutation of an earlier one stands."""
        if self._path is None or self._attempt is None:
            return report
        from dpaudit.audit.canary_attempts import settled

        return settled(report, self._path, self._attempt)


def _audit_runs(file: CanaryFile, level: _Level, directory: Path | None, quiet: bool) -> AuditReport:
    from dpaudit.audit.canary import audit_canaries

    with progress_bar("Training with canaries", quiet) as progress:
        return audit_canaries(
            file,
            command=sys.argv,
            progress=progress,
            directory=directory,
            significance=level.begin(file.settings.significance),
        )


def _audit_scores(path: Path, claim_path: Path | None, flags: dict[str, Any], level: _Level) -> AuditReport:
    _refuse(flags, ("runs", "steps", "model", "fault", "seed", "jobs"), "with --scores nothing is trained")
    from dpaudit.audit.canary_scores import ScoresSource, audit_scores
    from dpaudit.canary import read_scores

    claim = merge_flags(_claim(claim_path), flags)
    return audit_scores(
        read_scores(path),
        claim,
        source=ScoresSource(
            title=f"Canary scores {path.name}",
            inputs=tuple(one for one in (path, claim_path) if one is not None),
            command=tuple(sys.argv),
        ),
        significance=level.begin(1e-3),
    )


def _claim(path: Path | None) -> PrivacyClaim:
    from dpaudit.claim import PrivacyClaim
    from dpaudit.claim_file import load_toml
    from dpaudit.toml_table import subtable

    return PrivacyClaim() if path is None else PrivacyClaim.from_table(subtable(load_toml(path), "claim"))


def _canary_file(path: Path | None, flags: dict[str, Any]) -> CanaryFile:
    """Read the file, or take the demo, and let flags win."""
    from dpaudit.audit.canary_file import demo, read_canary_file

    given = {name: flags[name] for name in _SETTINGS if flags.get(name) is not None}
    if path is None:
        file = demo(given.pop("model", "mlp"))
    else:
        _refuse(flags, ("model",), "the model of a FILE stands in it")
        file = read_canary_file(path)
    return replace(
        file,
        claim=merge_flags(file.claim, flags),
        settings=replace(file.settings, **given),
    )


def _refuse(flags: dict[str, Any], names: Sequence[str], why: str) -> None:
    for name in names:
        if flags.get(name) is not None:
            raise click.UsageError(f"--{name}: {why}.")


def _kept_beside(file: Path | None) -> Path | None:
    """Give the directory of unfinished audits: beside the file; the demo is too short to need one."""
    return None if file is None else file.parent / _RUNS


def _leave(report: AuditReport, html: Path | None, *, demo: bool) -> None:
    """Write the HTML report that was asked for; the demo leaves JSON and HTML of its own accord."""
    if html is None and not demo:
        return
    from dpaudit.report.html import to_html

    if html is not None:
        write_whole(html, to_html(report))
        return
    try:
        _REPORTS.mkdir(exist_ok=True)
    except OSError as error:
        raise DpauditError(f"cannot make {_REPORTS}: {error.strerror}", "Give -o and --html.") from error
    stem = _REPORTS / "canary-run"
    write_whole(stem.with_suffix(".json"), dump_json(report.to_json()))
    write_whole(stem.with_suffix(".html"), to_html(report))
    click.echo(f"Reports: {stem}.html and {stem}.json", err=True)
