"""`dpaudit check`: audit every claim file of a directory; the one command of CI."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import click

from dpaudit.audit.kinds import PlannedAudit, plan_audit
from dpaudit.audit_report import AuditReport, dump_json, write_whole
from dpaudit.cli.options import HELP, PATH
from dpaudit.cli.sampler import progress_bar
from dpaudit.config import read_config
from dpaudit.errors import DpauditError
from dpaudit.gate import GateOutcome, finding_line, pass_gate


@dataclass(frozen=True, slots=True)
class _Checked:
    path: Path
    file: PlannedAudit
    report: AuditReport

    @property
    def as_expected(self) -> bool:
        return self.file.expected in (None, self.report.verdict.outcome.value)


@click.command(
    context_settings=HELP,
    epilog="Exit codes: 0 all passed, 1 one failed, 2 wrong input, 3 one was inconclusive.",
)
@click.argument("paths", nargs=-1, type=PATH)
@click.option("--reports", type=PATH, help="Write HTML and JSON of each audit to this directory.")
@click.option("--pdf", is_flag=True, help="Write PDF reports there as well.")
@click.option("--config", type=PATH, help="dpaudit.toml or pyproject.toml; default: of this directory.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def command(
    paths: tuple[Path, ...], reports: Path | None, pdf: bool, config: Path | None, quiet: bool
) -> int:
    """Audit every claim file found; what CI calls.

    PATHS are claim files (.toml) or directories of them; default: audits.
    A file with `expected = "..."` passes when the audit reaches that verdict;
    the others are held against the project's policy, as `dpaudit gate` does.
    """
    if pdf and reports is None:
        raise click.UsageError("--pdf needs --reports DIRECTORY.")
    settings = read_config(Path.cwd(), config)
    files = {path: plan_audit(path) for path in _claim_files(paths or (Path("audits"),))}
    _make_directory(reports)
    checked = []
    for path, file in files.items():
        with progress_bar(file.title or str(path), quiet) as progress:
            report = file.run(["dpaudit", "check", str(path)], progress)
        if reports is not None:
            _write(reports / path.stem, report, pdf)
        checked.append(_Checked(path, file, report))
    gate = pass_gate(
        {one.path.stem: one.report for one in checked if one.file.expected is None},
        settings.gate,
        waivers=settings.waivers,
        today=date.today(),
    )
    _print(checked, gate, reports)
    return gate.exit_code if all(one.as_expected for one in checked) else 1


def _claim_files(paths: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DpauditError(f"no such file or directory: {path}")
        found += sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not found:
        raise DpauditError(f"no claim file (*.toml) in {', '.join(map(str, paths))}")
    return found


def _make_directory(path: Path | None) -> None:
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DpauditError(f"cannot write to {path}: {error.strerror}") from error


def _write(stem: Path, report: AuditReport, pdf: bool) -> None:
    from dpaudit.report.html import to_html

    write_whole(stem.with_suffix(".json"), dump_json(report.to_json()))
    write_whole(stem.with_suffix(".html"), to_html(report))
    if pdf:
        from dpaudit.report.pdf import to_pdf

        write_whole(stem.with_suffix(".pdf"), to_pdf(report))


def _print(checked: list[_Checked], gate: GateOutcome, reports: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dpaudit.report.printable import printable

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in ("Audit", "Verdict", "Expected"):
        table.add_column(column, no_wrap=True)
    table.add_column("What runs", ratio=1)
    for one in checked:
        observed = one.report.evidence.observed
        expected = one.file.expected or ""
        table.add_row(
            Text(printable(one.path.stem)),
            one.report.verdict.outcome.value,
            expected if one.as_expected else Text(f"{expected} (!)", style="bold red"),
            Text("" if observed is None else observed.description),
        )
    console = Console(width=None if sys.stdout.isatty() else 80, highlight=False)
    console.print(table)
    for finding in gate.findings:
        console.print(Text(printable(finding_line(finding))))
    expected_ones = [one for one in checked if one.file.expected is not None]
    if expected_ones:
        met = sum(one.as_expected for one in expected_ones)
        console.print(f"\n{met} of {len(expected_ones)} audits reached the expected verdict.")
    if reports is not None:
        console.print(f"Reports are in {reports}.")
