"""`dpaudit check`: audit every claim file of a directory; the one command of CI."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import click

from dpaudit.audit.cache import CACHE_DIRECTORY, AuditCache, environment
from dpaudit.audit.kinds import PlannedAudit, plan_audit
from dpaudit.audit.processes import run_audits
from dpaudit.audit.run import AuditDone, AuditResult
from dpaudit.audit_report import AuditReport, dump_json, write_whole
from dpaudit.cli.checked import Checked, judge
from dpaudit.cli.github import annotate, append_step_summary
from dpaudit.cli.options import HELP, PATH
from dpaudit.cli.output import emit, require_writable
from dpaudit.cli.progress import AuditBars
from dpaudit.cli.summary import FORMATS, render
from dpaudit.config import Config, read_config
from dpaudit.errors import DpauditError
from dpaudit.gate import applied_waivers
from dpaudit.policy import AppliedWaiver

_CONFIGURATION = ("pyproject.toml", "dpaudit.toml")


@click.command(
    context_settings=HELP,
    epilog="""Exit codes: 0 all passed, 1 one failed, 3 one was inconclusive; where an audit could
    not be made, 2 (wrong input) or 70 (it crashed), after all others are done.

    \b
    Examples:
      dpaudit check
      dpaudit check audits --reports reports --pdf --jobs 4
      dpaudit check audits/main.toml --format junit -o junit.xml
    """,
)
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--reports", type=PATH, help="Write HTML and JSON of each audit to this directory.")
@click.option("--pdf", is_flag=True, help="Write PDF reports there as well.")
@click.option("--config", type=PATH, help="dpaudit.toml or pyproject.toml; default: of this directory.")
@click.option("-j", "--jobs", type=click.IntRange(min=0), default=1, show_default=True,
              help="Audits at a time, each in its own process; 0: in this one.")  # fmt: skip
@click.option("--no-cache", is_flag=True, help=f"Audit anew what {CACHE_DIRECTORY} holds, and keep nothing.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text")
@click.option("-o", "--output", type=PATH, help="Write there instead of standard output.")
@click.option("--sarif", type=PATH, help="Also write SARIF, for code scanning.")
@click.option("--junit", type=PATH, help="Also write JUnit XML, for a CI system's list of tests.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 whatever is found; errors still fail.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def command(
    paths: tuple[Path, ...],
    reports: Path | None,
    pdf: bool,
    config: Path | None,
    jobs: int,
    no_cache: bool,
    form: str,
    output: Path | None,
    sarif: Path | None,
    junit: Path | None,
    exit_zero: bool,
    quiet: bool,
) -> int:
    """Audit every claim file found; what CI calls.

    PATHS are claim files (.toml) or directories of them; default: audits.
    A file with `expected = "..."` fails unless the audit reaches that verdict.
    All but those that expect a bad one are held against the project's policy,
    as `dpaudit gate` does. An audit is made anew when something that it read
    has changed. In a GitHub workflow the summary goes to the step's page too.
    """
    if pdf and reports is None:
        raise click.UsageError("--pdf needs --reports DIRECTORY.")
    require_writable(output, sarif, junit)
    settings = read_config(Path.cwd(), config)
    planned = {path: plan_audit(path) for path in _claim_files(paths or (Path("audits"),))}
    _make_directory(reports)
    cache = None if no_cache else AuditCache(CACHE_DIRECTORY, environment())
    if cache is not None:
        cache.prepare()
    with AuditBars({path: plan.title for path, plan in planned.items()}, quiet) as bars:
        work = _Work(planned, settings, cache, reports, pdf, bars)
        work.run(jobs)
    result = judge(work.checked(), settings, today=date.today())
    emit(render(result, form, settings, reports=reports, to_terminal=output is None), output)
    for extra, path in (("sarif", sarif), ("junit", junit)):
        if path is not None:
            write_whole(path, render(result, extra, settings))
    append_step_summary(render(result, "markdown", settings))
    annotate(result.findings, result.reports)
    return result.exit_code if result.failures or not exit_zero else 0


class _Work:
    """Audits under way: takes kept results, runs the others, writes every report as it comes."""

    def __init__(
        self,
        planned: dict[Path, PlannedAudit],
        settings: Config,
        cache: AuditCache | None,
        reports: Path | None,
        pdf: bool,
        bars: AuditBars,
    ) -> None:
        self._planned, self._settings, self._cache, self._bars = planned, settings, cache, bars
        self._reports, self._pdf = reports, pdf
        self._results: dict[Path, AuditResult] = {}
        self._kept: set[Path] = set()

    def run(self, jobs: int) -> None:
        """Do all that is planned."""
        for path in self._planned if self._cache else ():
            report = self._cache.find(path) if self._cache else None
            if report is not None:
                self._kept.add(path)
                self.finished(path, AuditDone(report=report, inputs=None))
        run_audits([path for path in self._planned if path not in self._kept], jobs=jobs, observer=self)

    def checked(self) -> tuple[Checked, ...]:
        """Give what came of each audit, in the order of the claim files."""
        return tuple(
            Checked(path=path, expected=plan.expected, result=self._results[path], kept=path in self._kept)
            for path, plan in self._planned.items()
        )

    def started(self, claim: Path) -> None:
        """Show a bar."""
        self._bars.started(claim)

    def progress(self, claim: Path, done: int, wanted: int) -> None:
        """Move the bar."""
        self._bars.progress(claim, done, wanted)

    def finished(self, claim: Path, result: AuditResult) -> None:
        """Write the report at once: what comes later may be interrupted."""
        self._results[claim] = result
        self._bars.finished(claim)
        if not isinstance(result, AuditDone):
            return
        if self._cache is not None and result.inputs is not None:
            self._cache.keep(claim, result.report, result.inputs)
        if self._reports is not None:
            waivers = applied_waivers(claim.stem, result.report, self._settings, today=date.today())
            _write(self._reports / claim.stem, result.report, waivers, pdf=self._pdf)


def _claim_files(paths: Iterable[Path]) -> list[Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise DpauditError(f"no such file or directory: {path}")
        inside = [one for one in sorted(path.glob("*.toml")) if one.name not in _CONFIGURATION]
        for file in inside if path.is_dir() else [path]:
            if found.setdefault(file.stem, file) != file:
                raise DpauditError(
                    f"two audits are called {file.stem!r}: {found[file.stem]} and {file}",
                    "Reports and policy know an audit by its file name; give one another name.",
                )
    if not found:
        raise DpauditError(f"no claim file (*.toml) in {', '.join(map(str, paths))}")
    return list(found.values())


def _make_directory(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DpauditError(f"cannot write to {path}: {error.strerror}") from error
    if not os.access(path, os.W_OK):
        raise DpauditError(f"cannot write to {path}: permission denied")


def _write(stem: Path, report: AuditReport, waivers: Sequence[AppliedWaiver], *, pdf: bool) -> None:
    from dpaudit.report.html import to_html

    write_whole(stem.with_name(f"{stem.name}.json"), dump_json(report.to_json()))
    write_whole(stem.with_name(f"{stem.name}.html"), to_html(report, waivers))
    if pdf:
        from dpaudit.report.pdf import to_pdf

        write_whole(stem.with_name(f"{stem.name}.pdf"), to_pdf(report, waivers))
