"""Renew what README and docs quote: help texts from the program, tables from benchmarks/results.

A quoted part stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; docs/rules is written whole.
A test fails while a quote differs from its source.

    python benchmarks/refresh_docs.py
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RULE_PAGES = ROOT / "docs" / "rules"


def help_texts() -> str:
    """Give the help of every command, as printed at 80 columns."""
    from dpaudit.cli.main import cli

    return _help(*([name] for name in cli.list_commands(click.Context(cli))))


def _help(*commands: list[str]) -> str:
    from dpaudit.cli.main import cli

    blocks = []
    for arguments in commands:
        text = CliRunner().invoke(cli, [*arguments, "--help"], prog_name="dpaudit", terminal_width=80).output
        name = " ".join(["dpaudit", *arguments, "--help"])
        blocks.append(f"<details><summary><code>{name}</code></summary>\n\n```text\n{text}```\n\n</details>")
    return "\n".join(blocks)


def example() -> str:
    """Give what `dpaudit sampler` says of a shipped audit, without the tests and the advice."""
    from dpaudit.cli.main import cli

    arguments = ["sampler", "--claim", str(ROOT / "audits" / "torch_shuffle.toml"), "--quiet"]
    text = CliRunner().invoke(cli, arguments, prog_name="dpaudit").output
    head, rest = text.split("\nTests\n", 1)
    epsilons = rest[rest.index("\nEpsilon\n") : rest.index("\nHow to fix it\n")]
    shown = f"$ dpaudit sampler --claim audits/torch_shuffle.toml\n\n{head}{epsilons}"
    return f"```text\n{shown.rstrip()}\n```"


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Lay out rows of equal keys as a Markdown table."""
    header = list(rows[0])
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(f"{row[key]}" for key in header) + " |" for row in rows]
    return "\n".join(lines)


def cost_table() -> str:
    """Give the table of docs/why.md."""
    return markdown_table(json.loads((RESULTS / "cost_of_shuffling.json").read_text()))


def figures() -> str:
    """Give the README's table of figures."""
    calibration, battery, recording, accounting = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("calibration", "battery", "recording", "accounting")
    )
    rows = [
        _figure(
            f"honest Poisson traces accused, of {calibration['traces']:,}",
            f"{calibration['accused']}",
            f"{calibration['traces'] * calibration['family_wise_error']:g} at the stated error of "
            f"{calibration['family_wise_error']:g}",
            "calibration.py",
        ),
        _figure(
            "largest share of them rejected by a single test at 5 %",
            f"{max(calibration['rejected_share_by_test'].values()):.2%}",
            "5 %",
            "calibration.py",
        ),
    ]
    for run in battery["runs"]:
        rows.append(
            _figure(
                f"battery on {run['draws'] / 1e6:.0f} M draws, N = {run['num_records']:,}, "
                f"batch {run['batch_size']}, per draw",
                f"{run['nanoseconds_per_draw']:.0f} ns",
                f"60 ns; memory {run['memory_over_limit']:.2f} of its limit",
                "battery.py",
            )
        )
    rows.append(
        _figure(
            "iterating a recorded loader over the bare one",
            f"{recording['worst_ratio']}x",
            "1.1x",
            "recording.py",
        )
    )
    rows += [_accounting_figure(one) for one in accounting if "peer" in one]
    rows += [*_canary_figures(), *_other_figures()]
    return markdown_table(rows)


def _canary_figures() -> list[dict[str, str]]:
    tightness = json.loads((RESULTS / "canary_runs.json").read_text())["tightness"]
    rows = []
    for name in ("per step, one run", "end to end, iid", "ten runs, any dependence"):
        shares = " / ".join(_ratio(row[name]) for row in tightness)
        epsilons = " / ".join(f"{row['epsilon']:.0f}" for row in tightness)
        seconds = max(row[f"{name}: seconds"] for row in tightness)
        rows.append(
            _figure(
                f"canaries, 95 % bound over the true epsilon, {name}; epsilon {epsilons}",
                f"{shares} in {seconds:.0f} s",
                "1",
                "canary_runs.py",
            )
        )
    models = json.loads((RESULTS / "black_box.json").read_text())["rows"]
    for row in models:
        if round(row["epsilon"]) == 4:
            batches = "full batches" if row["rate"] == 1 else f"Poisson batches at rate {row['rate']:g}"
            rows.append(
                _figure(
                    f"the same from final losses alone, {row['models']:,.0f} models, {batches}, epsilon 4",
                    f"{_ratio(row['normal_scores'])} in {row['cpu_seconds']:.0f} s",
                    "1",
                    "canary.py",
                )
            )
    return rows


def _other_figures() -> list[dict[str, str]]:
    monitor, script, reports, giant = (
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("monitor", "script_overhead", "reports", "battery_giant")
    )
    slowest = max(one["monitor_over_battery"] for one in monitor["power"].values())
    largest = max(giant["runs"], key=lambda run: run["draws"])
    longest = max(reports["reports"], key=lambda one: one["seconds"])
    return [
        _figure(
            "steps that live monitoring needs, over those of a test afterwards, worst of "
            f"{len(monitor['power'])} samplers",
            f"{slowest:.1f}x",
            "3x",
            "monitor.py",
        ),
        _figure(
            "a recorded training step over the bare one, small CNN",
            f"{script['worst_ratio']:.3f}x",
            "1.02x",
            "script_overhead.py",
        ),
        _figure(
            f"audit of a trace of {largest['draws'] / 1e9:.0f} G draws from disk",
            f"{largest['seconds']:.0f} s, {largest['own_bytes'] / 1e6:.0f} MB",
            f"{giant['time_per_draw_over_that_of_a_tenth']:.2f}x the time per draw of a tenth of it",
            "battery.py --giant",
        ),
        _figure(
            f"{longest['question']} of a report, imports included",
            f"{longest['seconds']:.1f} s",
            f"{longest['limit_seconds']:g} s",
            "reports.py",
        ),
    ]


def _figure(what: str, measured: str, against: str, script: str) -> dict[str, str]:
    return {"what": what, "measured": measured, "limit or peer": against, "script": f"`{script}`"}


def _accounting_figure(one: dict[str, Any]) -> dict[str, str]:
    ours = one["dpaudit"]
    bracket = f"{ours['lower']:.4f} to " if "lower" in ours else "at most "
    against = (
        f"{one['limit_seconds']:g} s" if "limit_seconds" in one else f"{one['times_faster']:.0f}x the time"
    )
    if "peer" in one:
        peer = one["peer"]
        low = f"{peer['lower']:.4f} to " if "lower" in peer else "at most "
        against += f", {low}{peer['upper']:.4f}"
    return _figure(
        one["question"], f"{bracket}{ours['upper']:.4f} in {ours['seconds']:.2f} s", against, "accounting.py"
    )


def training_accuracy() -> str:
    """Give the accuracies of docs/training.md, each with its epsilon."""
    rows = []
    for one in json.loads((RESULTS / "training.json").read_text())["accuracy"]:
        epsilon = "no noise" if one["epsilon"] is None else f"{math.ceil(100 * one['epsilon']) / 100:g}"
        rows.append(
            {
                "data, model": one["training"],
                "epsilon at most": epsilon,
                "noise multiplier": f"{one['noise_multiplier'] or 0:.3g}",
                "steps": one["steps"],
                f"accuracy, mean of {one['seeds']}": f"{one['accuracy']:.1%}",
                "lowest": f"{one['lowest']:.1%}",
            }
        )
    note = "without noise records are clipped all the same"
    return f"{markdown_table(rows)}\n\nAt delta = 1e-5, zero_out; {note}. `benchmarks/training.py`"


def training_modes() -> str:
    """Give the largest distance between the trainings of two clipping modes."""
    found = json.loads((RESULTS / "training.json").read_text())["modes"]
    return f"{max(one['largest_relative_distance'] for one in found):.0e}"


def training_compiled() -> str:
    """Give the step times of docs/training.md, over the compiled step without privacy."""
    found = json.loads((RESULTS / "training.json").read_text())["compiled"]
    over = found["over_compiled_non_private"]
    rows = [
        {"step": name.replace("_", " "), "seconds": f"{found['seconds'][name]:.3f}", "ratio": f"{ratio:.2f}"}
        for name, ratio in over.items()
    ]
    return f"{found['model']}, medians of {found['rounds']} interleaved rounds:\n\n{markdown_table(rows)}"


def canary_estimators() -> str:
    """Give the table of estimators in docs/canary-methods.md."""
    from dpaudit.canary import ESTIMATORS

    scores = json.loads((RESULTS / "canary.json").read_text())["scores"]
    one_run = [row for row in scores if (row["m"], row["runs"]) == (10_000, 1)]
    many_runs = [row for row in scores if (row["m"], row["runs"]) == (8000, 10)]
    rows = []
    for name, estimator in ESTIMATORS.items():
        measured = many_runs if name.startswith("run_level") else one_run
        needs = ["a claim"] * estimator.needs_claim + ["fair coins"] * estimator.fair_coins
        rows.append(
            {
                "estimator": f"`{name}`",
                "class": estimator.validity.replace("_", " ")
                + (", asymptotic" if estimator.asymptotic else ""),
                "needs": ", ".join(needs) or "nothing",
            }
            | {f"epsilon {row['epsilon']:.0f}": _ratio(row.get(name)) for row in measured}
            | {"source": estimator.reference}
        )
    return markdown_table(rows)


def canary_updates() -> str:
    """Give the table of white-box bounds in docs/canary-methods.md."""
    steps = json.loads((RESULTS / "canary.json").read_text())["steps"]
    names = [name for name in steps[0] if name.startswith(("per step", "likelihood ratio"))]
    rows = [
        {"bound": name} | {f"epsilon {row['epsilon']:.0f}": _ratio(row[name]) for row in steps}
        for name in names
    ]
    for name in ("seconds, per step", "seconds, end to end"):
        rows.append({"bound": name} | {f"epsilon {row['epsilon']:.0f}": f"{row[name]:.2f}" for row in steps})
    return markdown_table(rows)


def canary_black_box() -> str:
    """Give the table of black-box bounds in docs/canary-methods.md."""
    audits = json.loads((RESULTS / "black_box.json").read_text())["rows"]
    return markdown_table(
        [
            {
                "batches": "full" if row["rate"] == 1 else f"Poisson, rate {row['rate']:g}",
                "epsilon": f"{row['epsilon']:.2f}",
                "models": f"{row['models']:,.0f}",
                "CPU seconds": f"{row['cpu_seconds']:.0f}",
                "accuracy": f"{row['accuracy']:.2f}",
                "area": f"{row['area']:.3f}",
                "normal scores": _ratio(row["normal_scores"]),
                "area bound": _ratio(row["area_under_curve"]),
                "assuming (epsilon, delta)-DP alone": _ratio(row["fair_coin_ratio"]),
            }
            for row in audits
        ]
    )


def canary_speed() -> str:
    """Give the table of times in docs/canary-methods.md."""
    times = json.loads((RESULTS / "canary.json").read_text())["times"]
    return markdown_table(
        [
            {
                "bound": row["bound"],
                "canaries": f"{row['canaries']:,}",
                "dpaudit, ms": f"{row['milliseconds']:.1f}",
                "bound, nats": f"{row['lower']:.3f}",
                "jax_privacy, ms": f"{row['jax_privacy_milliseconds']:.0f}" if "times_faster" in row else "-",
                "its bound": f"{row['jax_privacy_lower']:.3f}" if "times_faster" in row else "-",
                "times faster": f"{row['times_faster']:.0f}" if "times_faster" in row else "-",
            }
            for row in times
        ]
    )


def _ratio(value: float | None) -> str:
    """Print a share of the true epsilon rounded down, as lower bounds are."""
    return "-" if value is None else f"{math.floor(100 * value) / 100:.2f}"


SOURCES: dict[str, tuple[str, Callable[[], str]]] = {
    "example": ("README.md", example),
    "figures": ("README.md", figures),
    "help": ("docs/commands.md", help_texts),
    "cost table": ("docs/why.md", cost_table),
    "canary estimators": ("docs/canary-methods.md", canary_estimators),
    "canary updates": ("docs/canary-methods.md", canary_updates),
    "canary black box": ("docs/canary-methods.md", canary_black_box),
    "canary speed": ("docs/canary-methods.md", canary_speed),
    "training accuracy": ("docs/training.md", training_accuracy),
    "training compiled": ("docs/training.md", training_compiled),
    "training modes": ("docs/training.md", training_modes),
}


def renewed(name: str) -> tuple[Path, str]:
    """Give a document's path and its text with one quote renewed."""
    file, source = SOURCES[name]
    path = ROOT / file
    pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    text, count = pattern.subn(lambda match: f"{match[1]}{source()}\n{match[2]}", path.read_text())
    if count != 1:
        raise ValueError(f"{file} has {count} places for {name!r}")
    return path, text


def rule_pages() -> dict[Path, str]:
    """Give the page of every rule, and their index, by path."""
    from dpaudit.audit.rules import RULES, explain

    rules = sorted(RULES.values(), key=lambda rule: rule.id)
    index = "".join(f"- [{rule.id}]({rule.id}.md): {rule.title}\n" for rule in rules)
    pages = {RULE_PAGES / f"{rule.id}.md": explain(rule) for rule in rules}
    return pages | {RULE_PAGES / "README.md": f"# Rules\n\nAlso: `dpaudit explain DPA103`.\n\n{index}"}


def main() -> None:
    """Renew every quote and every rule page."""
    for name in SOURCES:
        path, text = renewed(name)
        path.write_text(text)
    RULE_PAGES.mkdir(exist_ok=True)
    for path, text in rule_pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
