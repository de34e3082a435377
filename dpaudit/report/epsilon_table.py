"""The table of `dpaudit epsilon`: terminal text, Markdown and JSON of one survey."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from dpaudit.accounting.comparison import AccountantAnswer
from dpaudit.accounting.survey import SurveyRow, standing
from dpaudit.audit.keeping import keep_sampling
from dpaudit.interval import EpsilonInterval, format_lower, format_upper, json_number
from dpaudit.provenance import Provenance
from dpaudit.report.epsilon_plot import interval_plot
from dpaudit.report.markdown import inert
from dpaudit.report.printable import printable
from dpaudit.scheme import (
    BallsInBins,
    BlockShuffle,
    BufferShuffle,
    CyclicPoisson,
    FixedSize,
    Poisson,
    ReplayedPoisson,
    SamplingScheme,
    Shuffle,
    TruncatedPoisson,
    scheme_to_json,
)

_WORDS = {
    "claimed": "claimed",
    "violates": "refuted",
    "within": "holds",
    "open": "not proved",
    "unknown": "no theorem",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EpsilonSurvey:
    """All that one run of `dpaudit epsilon` found."""

    claim: dict[str, Any]
    """noise_multiplier, sampling_rate, steps, num_records, delta, adjacency, target_epsilon."""
    rows: tuple[SurveyRow, ...]
    accountants: tuple[AccountantAnswer, ...]
    noise_needed: tuple[float | None, ...]
    """For every row the noise multiplier that the target epsilon needs; empty without a target."""
    notes: tuple[str, ...]

    @property
    def claimed(self) -> EpsilonInterval:
        """The interval of the claimed scheme, which every adjacency covers."""
        interval = self.rows[0].interval
        if interval is None:
            raise ValueError("the claimed scheme has no epsilon")
        return interval


def label(scheme: SamplingScheme) -> str:
    """Name a scheme in few words."""
    match scheme:
        case Poisson(rate):
            return f"Poisson, rate {rate:.4g}"
        case TruncatedPoisson(_, most):
            return f"Poisson cut at {most}"
        case BallsInBins(bins, fresh):
            return f"balls in {bins} bins, {'fresh' if fresh else 'kept'}"
        case Shuffle(_, fresh, drop_last):
            ending = ", drop last" if drop_last else ""
            return ("shuffle, fresh each epoch" if fresh else "shuffle, one order") + ending
        case FixedSize(size, replacement):
            return f"fresh batches of {size}, {'with' if replacement else 'no'} repl."
        case BufferShuffle(_, buffer):
            return f"shuffle buffer of {buffer}"
        case BlockShuffle(_, block):
            return f"shuffled blocks of {block}"
        case CyclicPoisson(rate, period):
            return f"cyclic Poisson {rate:.4g}, {period} groups"
        case ReplayedPoisson(_, period):
            return f"{period} Poisson batches replayed"
    return scheme.name.replace("_", " ")


def to_text(survey: EpsilonSurvey) -> str:
    """Render for a terminal of 80 columns."""
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False, color_system=None)
    console.print(_headline(survey))
    console.print()
    _print_table(console, _header(survey), [_cells(survey, place) for place in range(len(survey.rows))])
    plot = _plot(survey)
    if plot:
        console.print("\nThe same on a logarithmic axis; | is the claim, # where a bar meets it.\n")
    for line in plot:
        console.print(line, markup=False, soft_wrap=True)
    _print_ways_out(console, survey)
    if survey.accountants:
        rows = [(a.accountant, *_answer(a)) for a in survey.accountants]
        console.print("\nOther accountants, for the claimed sampling")
        _print_table(console, ("Accountant", "Epsilon", "Against ours"), rows)
    for note in survey.notes:
        console.print(f"\n{printable(note)}", markup=False)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).rstrip() + "\n"


def to_markdown(survey: EpsilonSurvey) -> str:
    """Render as GitHub-flavoured Markdown."""
    lines = [f"## {inert(_headline(survey))}", ""]
    lines += _markdown_table(_header(survey), [_cells(survey, place) for place in range(len(survey.rows))])
    if survey.accountants:
        lines += ["### Other accountants, for the claimed sampling", ""]
        rows = [(a.accountant, *_answer(a)) for a in survey.accountants]
        lines += _markdown_table(("Accountant", "Epsilon", "Against ours"), rows)
    lines += [f"- {inert(sentence)}" for sentence in _ways_out(survey)]
    lines += [f"- {inert(note)}" for note in survey.notes]
    return "\n".join(lines).rstrip() + "\n"


def to_json(survey: EpsilonSurvey, provenance: Provenance) -> dict[str, Any]:
    """Give everything, ready for `dump_json`."""
    epsilons, skipped = [], []
    for place, row in enumerate(survey.rows):
        if row.interval is None:
            skipped.append({"parameters": scheme_to_json(row.scheme), "reason": row.reason})
            continue
        record = row.interval.to_json() | {"role": row.role, "standing": standing(row, survey.claimed)}
        if survey.noise_needed:
            record["noise_multiplier_for_target"] = survey.noise_needed[place]
        epsilons.append(record)
    answers = [
        {
            "accountant": answer.accountant,
            "epsilon": None if answer.epsilon is None else json_number(answer.epsilon),
            "reason": answer.reason,
            "excess": answer.excess,
            "too_small": answer.too_small,
        }
        for answer in survey.accountants
    ]
    return {
        "schema_version": "1",
        "kind": "epsilon",
        "claim": survey.claim,
        "epsilons": epsilons,
        "skipped": skipped,
        "accountants": answers,
        "advice": list(_ways_out(survey)),
        "notes": list(survey.notes),
        "provenance": provenance.to_json(),
    }


def _plot(survey: EpsilonSurvey) -> tuple[str, ...]:
    rows = [
        (label(row.scheme), row.interval.lower, row.interval.upper)
        for row in survey.rows
        if row.interval is not None
    ]
    return interval_plot(rows, survey.claimed.upper)


def _ways_out(survey: EpsilonSurvey) -> tuple[str, ...]:
    """Say of each scheme that takes more noise than the claimed one how much, in the words of a report."""
    if not survey.noise_needed:
        return ()
    claimed = survey.noise_needed[0]
    by_noise: dict[str, list[tuple[float, SamplingScheme]]] = {}
    for row, noise in zip(survey.rows, survey.noise_needed, strict=True):
        if noise is not None and claimed is not None and noise > claimed:
            by_noise.setdefault(format_upper(noise), []).append((noise, row.scheme))
    return tuple(
        keep_sampling(
            *(scheme for _, scheme in group),
            noise_needed=max(noise for noise, _ in group),  # printed as rounded: rounding twice adds a digit
            epsilon=survey.claim["target_epsilon"],
        )
        for group in by_noise.values()
    )


def _headline(survey: EpsilonSurvey) -> str:
    claim = survey.claim
    return (
        f"Epsilon at delta {claim['delta']:.4g}, noise multiplier {claim['noise_multiplier']:.4g}, "
        f"{claim['steps']} steps, {claim['adjacency']} neighbours"
    )


def _header(survey: EpsilonSurvey) -> tuple[str, ...]:
    last = (f"Noise for {survey.claim['target_epsilon']:.4g}",) if survey.noise_needed else ()
    return ("Sampling", "At least", "At most", "The claim", *last)


def _cells(survey: EpsilonSurvey, place: int) -> tuple[str, ...]:
    row = survey.rows[place]
    needed: tuple[str, ...] = ()
    if survey.noise_needed:
        noise = survey.noise_needed[place]
        needed = ("-" if noise is None else format_upper(noise),)
    if row.interval is None:
        return (label(row.scheme), "-", "-", "no theorem", *needed)
    lower, upper = row.interval.lower, row.interval.upper
    word = _WORDS[standing(row, survey.claimed)]
    if word == _WORDS["violates"]:
        word += f", x{lower / survey.claimed.upper:.3g}" if survey.claimed.upper > 0 else ""
    return (label(row.scheme), format_lower(lower), format_upper(upper), word, *needed)


def _answer(answer: AccountantAnswer) -> tuple[str, str]:
    if answer.epsilon is None:
        return "-", answer.reason
    if answer.too_small:
        return f"{answer.epsilon:.4f}", "below our lower bound: no guarantee"
    if answer.excess is None:
        return f"{answer.epsilon:.4f}", ""
    return f"{answer.epsilon:.4f}", f"{100 * answer.excess:+.2f} %"


def _print_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for column in header:
        numeric = column.startswith(("At ", "Noise", "Epsilon"))
        table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric)
    for row in rows:
        table.add_row(*(printable(cell) for cell in row))
    console.print(table)


def _print_ways_out(console: Console, survey: EpsilonSurvey) -> None:
    sentences = _ways_out(survey)
    if not sentences:
        return
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(ratio=1)
    for sentence in sentences:
        grid.add_row("-", printable(sentence))
    console.print("\nWays out\n")
    console.print(grid)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return [*lines, *("| " + " | ".join(inert(cell) for cell in row) + " |" for row in rows), ""]
