"""`dpaudit epsilon`: the claimed Poisson sampling against every scheme that may really run."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dpaudit.audit_report import dump_json
from dpaudit.cli.options import FORMATS, HELP, PATH
from dpaudit.cli.output import emit, require_writable
from dpaudit.cli.scheme_argument import parse_scheme
from dpaudit.errors import DpauditError
from dpaudit.scheme import ADJACENCIES, Adjacency, Poisson, SamplingScheme

_FIGURES = (".svg", ".png", ".pdf")
_POINTS = 7


@dataclass(frozen=True, slots=True)
class _Run:
    """The claimed run, complete."""

    rate: float
    batch_size: int
    num_records: int
    known_size: bool
    """Whether `num_records` was given; else it only fixes the ratio to `batch_size`."""
    steps: int
    delta: float
    adjacency: Adjacency


@click.command(
    context_settings=HELP,
    epilog="""Exit codes: 0 done, 2 wrong input.

    \b
    Examples:
      dpaudit epsilon --batch-size 64 --num-records 1536 --epochs 10 \\
          --delta 1e-5 --noise-multiplier 1
      dpaudit epsilon --sampling-rate 0.01 --steps 1000 --delta 1e-5 \\
          --target-epsilon 4 --figure epsilon.svg --over steps
    """,
)
@click.option("--noise-multiplier", type=float, help="Noise standard deviation / clip norm.")
@click.option("--sampling-rate", type=float, help="Claimed Poisson rate q, in (0, 1].")
@click.option("--batch-size", type=click.IntRange(min=1), help="With --num-records: q = batch / N.")
@click.option("--num-records", type=click.IntRange(min=1), help="N, size of the training set.")
@click.option("--steps", type=click.IntRange(min=1), help="Optimizer steps of the whole training.")
@click.option("--epochs", type=click.IntRange(min=1), help="Or whole epochs.")
@click.option("--delta", type=float, required=True, help="In (0, 1).")
@click.option("--adjacency", type=click.Choice(ADJACENCIES), default="zero_out", show_default=True)
@click.option("--scheme", "extra", multiple=True, help="Add one: 'shuffle(batch_size=100)'.")
@click.option(
    "--target-epsilon",
    type=float,
    help="Also the noise that every scheme needs for it, and without --noise-multiplier the claimed one's.",
)
@click.option("--accountants", is_flag=True, help="Also ask dp-accounting and Opacus.")
@click.option("--figure", type=PATH, help="Draw epsilon along an axis: .svg, .png or .pdf.")
@click.option("--over", type=click.Choice(("sigma", "steps", "delta")), default="sigma", show_default=True)
@click.option("--format", "form", type=click.Choice(FORMATS), default="text")
@click.option("-o", "--output", type=PATH, help="Write there instead of standard output.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on standard error.")
def command(
    noise_multiplier: float | None,
    target_epsilon: float | None,
    extra: tuple[str, ...],
    accountants: bool,
    figure: Path | None,
    over: str,
    form: str,
    output: Path | None,
    quiet: bool,
    **numbers: Any,
) -> int:
    """Bracket the epsilon of every sampling scheme.

    The claim is Poisson sampling at --sampling-rate, or at --batch-size out of
    --num-records. What runs may be something else: the table gives the epsilon
    of each scheme, from both sides, and whether the claim holds for it.
    """
    require_writable(output, figure)
    if figure is not None and figure.suffix.lower() not in _FIGURES:
        raise click.UsageError(f"--figure {figure}: expected a name ending in {', '.join(_FIGURES)}")
    run = _complete(**numbers)
    added = tuple(parse_scheme(text) for text in extra)
    sigma = _noise(run, noise_multiplier, target_epsilon)
    _require_theorems(added, run)
    schemes = (*_alternatives(run), *added)
    try:
        content = _answer(
            run, schemes, sigma, target_epsilon, accountants=accountants, form=form, quiet=quiet
        )
        if figure is not None:
            _draw(run, schemes, sigma, over, figure, quiet=quiet)
    except ValueError as error:
        raise DpauditError(str(error)) from error
    emit(content, output)
    return 0


def _complete(
    sampling_rate: float | None,
    batch_size: int | None,
    num_records: int | None,
    steps: int | None,
    epochs: int | None,
    delta: float,
    adjacency: Adjacency,
) -> _Run:
    if not 0 < delta < 1:
        raise click.UsageError(f"--delta {delta}: expected a number between 0 and 1")
    if (steps is None) == (epochs is None):
        raise click.UsageError("give either --steps or --epochs")
    if sampling_rate is not None and not 0 < sampling_rate <= 1:
        raise click.UsageError(f"--sampling-rate {sampling_rate}: expected a number above 0, up to 1")
    if sampling_rate is None and (batch_size is None or num_records is None):
        raise click.UsageError("give --sampling-rate, or --batch-size and --num-records")
    known_size = num_records is not None
    if num_records is None:
        num_records = max(1, round(1 / (sampling_rate or 1.0))) * (batch_size or 1)
    if batch_size is None:
        batch_size = max(1, round((sampling_rate or 1.0) * num_records))
    if batch_size > num_records:
        raise click.UsageError(f"--batch-size {batch_size} is larger than the {num_records} records")
    rate = batch_size / num_records if sampling_rate is None else sampling_rate
    total = steps or (epochs or 1) * math.ceil(num_records / batch_size)
    return _Run(rate, batch_size, num_records, known_size, total, delta, adjacency)


def _noise(run: _Run, noise_multiplier: float | None, target_epsilon: float | None) -> float:
    """Give the noise multiplier: as stated, or what the claimed scheme needs for the target."""
    if target_epsilon is not None and not (math.isfinite(target_epsilon) and target_epsilon > 0):
        raise click.UsageError(f"--target-epsilon {target_epsilon}: expected a number above 0")
    if noise_multiplier is None:
        if target_epsilon is None:
            raise click.UsageError("give --noise-multiplier, or --target-epsilon to find it")
        return _needed(Poisson(run.rate), run, target_epsilon)
    if not (math.isfinite(noise_multiplier) and noise_multiplier > 0):
        raise click.UsageError(f"--noise-multiplier {noise_multiplier}: expected a number above 0")
    return noise_multiplier


def _needed(scheme: SamplingScheme, run: _Run, target: float) -> float:
    from dpaudit.accounting import calibrate

    return calibrate(
        scheme,
        target_epsilon=target,
        delta=run.delta,
        steps=run.steps,
        num_records=run.num_records,
        adjacency=run.adjacency,
    )


def _require_theorems(schemes: Sequence[SamplingScheme], run: _Run) -> None:
    """Refuse a scheme that was asked for by name and has no theorem under the adjacency."""
    from dpaudit.accounting import known_adjacencies

    for scheme in schemes:
        known = known_adjacencies(scheme)
        if run.adjacency not in known:
            raise DpauditError(
                f"no theorem bounds the epsilon of {scheme.name} sampling under {run.adjacency}",
                f"Known for it: --adjacency {' or '.join(known)}.",
            )


def _alternatives(run: _Run) -> tuple[SamplingScheme, ...]:
    from dpaudit.accounting.survey import alternatives

    return alternatives(run.rate, run.batch_size, run.num_records if run.known_size else None)


def _answer(
    run: _Run,
    schemes: Sequence[SamplingScheme],
    sigma: float,
    target: float | None,
    *,
    accountants: bool,
    form: str,
    quiet: bool,
) -> str:
    from dpaudit.accounting.comparison import compare_accountants
    from dpaudit.accounting.survey import survey
    from dpaudit.report import epsilon_table

    claimed = Poisson(run.rate)
    setting: dict[str, Any] = {"noise_multiplier": sigma, "steps": run.steps, "num_records": run.num_records}
    setting |= {"delta": run.delta, "adjacency": run.adjacency}
    tell = _Progress(quiet)
    rows = survey(claimed, schemes, **setting, progress=tell)
    needed: list[float | None] = []
    for row in rows if target is not None else ():
        tell(row.scheme)
        try:
            needed.append(_needed(row.scheme, run, target or 0.0) if row.interval else None)
        except DpauditError:
            needed.append(None)
    asked = compare_accountants(claimed, **setting) if accountants else ()
    tell.done()
    found = epsilon_table.EpsilonSurvey(
        claim=setting | {"sampling_rate": run.rate, "batch_size": run.batch_size, "target_epsilon": target},
        rows=rows,
        accountants=asked,
        noise_needed=tuple(needed),
        notes=_notes(run, target, rows),
    )
    if form == "json":
        from dpaudit.provenance import collect

        return dump_json(epsilon_table.to_json(found, collect(command=sys.argv)))
    return epsilon_table.to_markdown(found) if form == "markdown" else epsilon_table.to_text(found)


def _notes(run: _Run, target: float | None, rows: Sequence[Any]) -> tuple[str, ...]:
    notes = [
        "At least: for some data and gradients no smaller epsilon holds. At most: proved for all. "
        "The claim is compared at its own upper bound."
    ]
    if not run.known_size:
        notes.append("No --num-records: schemes that need more than the ratio batch / N are left out.")
    if target is not None:
        notes.append("The noise for a target makes the upper bound reach it, within 0.1 %.")
    notes += [f"{row.reason}." for row in rows if row.interval is None]
    return tuple(dict.fromkeys(notes))


def _draw(
    run: _Run, schemes: Sequence[SamplingScheme], sigma: float, over: str, path: Path, *, quiet: bool
) -> None:
    from dpaudit.accounting import epsilon, known_adjacencies
    from dpaudit.accounting.survey import sweep
    from dpaudit.report.epsilon_curves import EpsilonCurve, save_curves
    from dpaudit.report.epsilon_table import label

    at = sweep(over, noise_multiplier=sigma, steps=run.steps, delta=run.delta, points=_POINTS)  # type: ignore[arg-type]
    tell = _Progress(quiet)
    curves = []
    for scheme in (Poisson(run.rate), *schemes):
        if run.adjacency not in known_adjacencies(scheme):
            continue
        intervals = []
        for value in at:
            tell(scheme)
            intervals.append(
                epsilon(
                    scheme,
                    noise_multiplier=value if over == "sigma" else sigma,
                    steps=round(value) if over == "steps" else run.steps,
                    num_records=run.num_records,
                    delta=value if over == "delta" else run.delta,
                    adjacency=run.adjacency,
                )
            )
        curves.append(EpsilonCurve(label(scheme), at, tuple(intervals)))
    tell.done()
    fixed = {"sigma": f"noise {sigma:.4g}", "steps": f"{run.steps} steps", "delta": f"delta {run.delta:.3g}"}
    title = ", ".join(text for name, text in fixed.items() if name != over) + f", {run.adjacency}"
    save_curves(curves, over, path, title=title)


class _Progress:
    """One line on a terminal that says which scheme is at work."""

    def __init__(self, quiet: bool) -> None:
        self._shown = not quiet and sys.stderr.isatty()

    def __call__(self, scheme: SamplingScheme) -> None:
        if self._shown:
            click.echo(f"\r{scheme.name.replace('_', ' '):<30}", err=True, nl=False)

    def done(self) -> None:
        """Clear the line."""
        if self._shown:
            click.echo("\r" + " " * 30 + "\r", err=True, nl=False)
