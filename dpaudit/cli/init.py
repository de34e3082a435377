"""`dpaudit init`: a first claim file, from a loader or a training script."""

from __future__ import annotations

from pathlib import Path

import click

from dpaudit.audit_report import write_whole
from dpaudit.cli.options import HELP, PATH
from dpaudit.errors import DpauditError


@click.command(
    context_settings=HELP,
    epilog="""Exit codes: 0 written, 2 wrong input.

    \b
    Examples:
      dpaudit init my_loader.py
      dpaudit init train.py:make_loader(batch_size=64) -o audits/main.toml
      dpaudit init -o audits/new.toml
    """,
)
@click.argument("target", required=False)
@click.option("-o", "--output", type=PATH, help="Claim file.  [default: audits/NAME.toml]")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def command(target: str | None, output: Path | None, force: bool) -> int:
    """Write a commented claim file, to be filled in and committed.

    TARGET is a file with a data loader, an Opacus script, or any other target of
    `dpaudit sampler`. A script's make_private, DataLoader and get_epsilon are
    read off its text; the loader is opened but not iterated, nothing is trained.
    Without TARGET the file is an empty form.
    """
    path = output or Path("audits") / f"{_name(target)}.toml"
    if path.is_dir():
        raise DpauditError(f"cannot write {path}: it is a directory", "Give the name of a file.")
    if path.exists() and not force:
        raise DpauditError(f"{path} is there already", "--force overwrites it; -o names another.")

    from dpaudit.init.claim_template import render
    from dpaudit.init.draft import draft_claim

    draft = draft_claim(target, path.parent)
    _make_directory(path.parent)
    write_whole(path, render(draft))
    click.echo(f"Wrote {path}. Fill in what is missing, then: dpaudit check {path}")
    return 0


def _name(target: str | None) -> str:
    if target is None:
        return "claim"
    file = target.partition(":")[0]
    return Path(file).stem if file.endswith((".py", ".npz")) else file.rpartition(".")[2]


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DpauditError(f"cannot make {path}: {error.strerror}") from error
