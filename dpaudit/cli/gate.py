"""`dpaudit gate`: policy, waivers and baseline against the JSON of audits; the verdict for CI."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from dpaudit.audit.recheck import read_sound_report
from dpaudit.audit_report import AuditReport, dump_json
from dpaudit.cli.github import annotate, append_step_summary
from dpaudit.cli.options import HELP, PATH
from dpaudit.cli.output import emit, require_writable
from dpaudit.cli.summary import FORMATS, findings_as_json, machine_readable, markdown
from dpaudit.config import Config, read_config
from dpaudit.errors import DpauditError
from dpaudit.gate import GateOutcome, finding_line, pass_gate


@click.command(
    context_settings=HELP,
    epilog="""Exit codes: 0 passed, 1 failed, 2 wrong input, 3 inconclusive.

    \b
    Examples:
      dpaudit gate reports/*.json
      dpaudit gate reports/main.json --baseline main.json
      dpaudit gate reports/*.json --format sarif -o dpaudit.sarif
    """,
)
@click.argument("reports", nargs=-1, required=True, type=PATH)
@click.option("--config", type=PATH, help="dpaudit.toml or pyproject.toml; default: of this directory.")
@click.option("--baseline", multiple=True, type=PATH, help="Earlier report; fails where this one is worse.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="text")
@click.option("-o", "--output", type=PATH, help="Write there instead of standard output.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 whatever is found; errors still fail.")
def command(
    reports: tuple[Path, ...],
    config: Path | None,
    baseline: tuple[Path, ...],
    form: str,
    output: Path | None,
    exit_zero: bool,
) -> int:
    """Hold audit reports (JSON) against the project's policy.

    The policy is [tool.dpaudit.gate] of pyproject.toml or [gate] of dpaudit.toml.
    In a GitHub workflow the summary is appended to the step's summary page.
    """
    require_writable(output)
    settings = read_config(Path.cwd(), config)
    loaded = _by_name(reports)
    outcome = pass_gate(
        loaded,
        settings.gate,
        waivers=settings.waivers,
        baseline=_by_name(baseline) if baseline else None,
        today=date.today(),
    )
    emit(_render(form, loaded, outcome, settings), output)
    append_step_summary(_render("markdown", loaded, outcome, settings))
    annotate(outcome.findings, loaded)
    return 0 if exit_zero else outcome.exit_code


def _by_name(paths: tuple[Path, ...]) -> dict[str, AuditReport]:
    loaded: dict[str, AuditReport] = {}
    for path in paths:
        if path.stem in loaded:
            raise DpauditError(f"two reports are called {path.stem!r}", "Give them different file names.")
        loaded[path.stem] = read_sound_report(path)
    return loaded


def _render(form: str, reports: dict[str, AuditReport], outcome: GateOutcome, settings: Config) -> str:
    if form == "json":
        return dump_json(_as_json(outcome))
    if form in ("sarif", "junit"):
        return machine_readable(form, reports, outcome.findings)
    if form == "markdown":
        return markdown(_word(outcome), outcome.findings, reports, settings)
    from dpaudit.report.printable import printable

    lines = [printable(finding_line(finding)) for finding in outcome.findings]
    return "\n".join([*lines, f"Gate {_word(outcome)}: {len(reports)} reports.", ""])


def _word(outcome: GateOutcome) -> str:
    return {0: "passed", 1: "failed", 3: "inconclusive"}[outcome.exit_code]


def _as_json(outcome: GateOutcome) -> dict[str, object]:
    return {
        "schema_version": "1",
        "kind": "gate",
        "passed": outcome.exit_code == 0,
        "findings": findings_as_json(outcome.findings),
    }
