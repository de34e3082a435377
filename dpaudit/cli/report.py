"""`dpaudit report`: HTML and PDF from the JSON of earlier audits; runs no audited code."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from dpaudit.audit.recheck import read_sound_report
from dpaudit.audit_report import write_whole
from dpaudit.cli.options import HELP, PATH
from dpaudit.config import read_config
from dpaudit.errors import DpauditError
from dpaudit.gate import applied_waivers


@click.command(
    context_settings=HELP,
    epilog="""Exit codes: 0 written, 2 wrong input.

    \b
    Examples:
      dpaudit report main.json --pdf
      dpaudit report reports/*.json --no-html --pdf -o signed
    """,
)
@click.argument("reports", nargs=-1, required=True, type=PATH)
@click.option("--html/--no-html", default=True, help="Write NAME.html (the default).")
@click.option("--pdf/--no-pdf", default=False, help="Write NAME.pdf as well.")
@click.option(
    "--config", type=PATH, help="dpaudit.toml or pyproject.toml with waivers; default: of this directory."
)
@click.option("-o", "--output", type=PATH, default=Path("reports"), help="Directory.  [default: reports]")
def command(reports: tuple[Path, ...], html: bool, pdf: bool, config: Path | None, output: Path) -> int:
    """Write HTML and PDF reports from the JSON of earlier audits.

    Waivers of the project's policy that meet a finding are shown in the report.
    """
    if not (html or pdf):
        raise click.UsageError("nothing to write: neither HTML nor PDF is asked for.")
    stems = [path.stem for path in reports]
    if len(set(stems)) < len(stems):
        raise DpauditError("two reports have the same name and would overwrite each other")
    settings, today = read_config(Path.cwd(), config), date.today()
    loaded = [(path.stem, read_sound_report(path)) for path in reports]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DpauditError(f"cannot write to {output}: {error.strerror}") from error
    for stem, report in loaded:
        waivers = applied_waivers(stem, report, settings, today=today)
        if html:
            from dpaudit.report.html import to_html

            write_whole(output / f"{stem}.html", to_html(report, waivers))
        if pdf:
            from dpaudit.report.pdf import to_pdf

            write_whole(output / f"{stem}.pdf", to_pdf(report, waivers))
    return 0
