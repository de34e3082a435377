"""`dpaudit explain RULE`: what a rule tests, what it misses, how to fix it."""

from __future__ import annotations

import click

from dpaudit.cli.options import HELP
from dpaudit.errors import DpauditError, nearest_name


@click.command(
    context_settings=HELP,
    epilog="""Exit codes: 0 explained, 2 no such rule.

    \b
    Examples:
      dpaudit explain DPA103
      dpaudit explain
    """,
)
@click.argument("rule", required=False)
def command(rule: str | None) -> int:
    """Explain a rule, e.g. DPA103; without one, list them all."""
    from dpaudit.audit.rules import RULES, explain

    if rule is None:
        for one in sorted(RULES.values(), key=lambda one: one.id):
            click.echo(f"{one.id}  {one.title}")
        return 0
    found = RULES.get(rule.upper())
    if found is None:
        raise DpauditError(
            f"no rule {rule!r}", nearest_name(rule.upper(), RULES) or "dpaudit explain lists them."
        )
    click.echo(explain(found), nl=False)
    return 0
