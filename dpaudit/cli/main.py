"""The `dpaudit` program: lazy command group, exit codes, error messages.

Exit codes: 0 policy met, nothing refuted; 1 refuted or unsupported; 2 wrong usage, configuration or
input; 3 inconclusive; 70 internal error (which must never read as "claim refuted"); 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from dpaudit._version import __version__
from dpaudit.errors import DpauditError, UserCodeError

INPUT_ERROR = 2
INTERNAL_ERROR = 70
INTERRUPTED = 130

_COMMANDS = {
    "canary-run": "Train with canaries, and bound epsilon from below.",
    "check": "Audit every claim file found; what CI calls.",
    "epsilon": "The epsilon of every sampling scheme, bracketed.",
    "explain": "What a rule tests, what it misses, how to fix it.",
    "gate": "Hold audit reports against the project's policy.",
    "init": "Write a commented claim file, from a loader or a training script.",
    "report": "HTML and PDF reports from the JSON of audits.",
    "sampler": "Test what a data loader really samples, and what epsilon that deserves.",
    "train": "Train by DP-SGD, and say what epsilon that deserves.",
}


class _LazyGroup(click.Group):
    """Imports a command's module only when that command runs, so that --help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"dpaudit.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for an unknown one."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from dpaudit.errors import nearest_name

            raise click.UsageError(
                f"no command {args[0]!r}. {nearest_name(args[0], _COMMANDS)}".rstrip(), ctx=ctx
            )
        return super().resolve_command(ctx, args)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DPAUDIT"},
)
@click.version_option(__version__, prog_name="dpaudit")
def cli() -> None:
    """Audit differential-privacy claims.

    Exit codes: 0 nothing refuted, 1 refuted or unsupported, 2 wrong input,
    3 inconclusive, 70 internal error.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and give its exit code; every error becomes one readable message."""
    try:
        code = cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return INPUT_ERROR
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except DpauditError as error:
        _show(error)
        return INPUT_ERROR
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:
        traceback.print_exc()
        click.echo("Internal error of dpaudit; nothing was decided. Please report it.", err=True)
        return INTERNAL_ERROR


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run())


def _show(error: DpauditError) -> None:
    if isinstance(error, UserCodeError):
        click.echo(error.user_traceback.rstrip(), err=True)
    click.echo(f"Error: {error.message}", err=True)
    if error.hint:
        click.echo(error.hint, err=True)
