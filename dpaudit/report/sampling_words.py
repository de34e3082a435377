"""Words for the sampling that was watched, for hypothesis tests, and for what they would have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dpaudit.findings import Alternative, HypothesisTest, ObservedScheme
from dpaudit.report.rows import TestRow


def observation(observed: ObservedScheme) -> tuple[str, ...]:
    """Say what runs and how much of it was watched."""
    rate = observed.rate
    return (
        f"What runs: {observed.description}.",
        f"{observed.steps:,} steps with {observed.draws:,} draws from {observed.num_records:,} records "
        "were watched.",
        f"Sampling rate: claimed {rate.claimed:.6g}, observed {rate.estimate:.6g} "
        f"({rate.confidence:.0%} interval {rate.low:.6g} to {rate.high:.6g}).",
    )


def test_rows(tests: Sequence[HypothesisTest]) -> tuple[TestRow, ...]:
    """Word each test."""
    return tuple(_row(test) for test in tests)


def visible(alternatives: Sequence[Alternative], more: str = "steps") -> tuple[str, ...]:
    """Say what this audit would have shown: the certain together, the rest one by one."""
    certain = [one.name for one in alternatives if one.power > 0.99]
    lines = [f"With a probability of more than 99 %: {'; '.join(certain)}."] if certain else []
    return (*lines, *(_uncertain(one, more) for one in alternatives if one.power <= 0.99))


def _row(test: HypothesisTest) -> TestRow:
    return TestRow(
        rule=test.rule,
        name=test.name,
        null_hypothesis=test.null_hypothesis,
        p_value=_p_value(test.adjusted_p_value),
        result="REJECTED" if test.rejected else "not rejected",
        effect=_effect(test.effect, test.effect_unit),
        detectable=_effect(test.detectable_effect, test.effect_unit),
    )


def _p_value(p_value: float) -> str:
    if p_value < 1e-300:
        return "< 1e-300"
    return f"{p_value:.1e}" if p_value < 1e-3 else f"{p_value:.3f}"


def _effect(effect: float | None, unit: str) -> str:
    return "" if effect is None else f"{effect:.3g} {unit}".strip()


def _uncertain(one: Alternative, more: str) -> str:
    chance = "less than 1 %" if one.power < 0.01 else f"{math.floor(100 * one.power)} %"
    needed = ""
    if one.power < 0.9:
        needed = f" ({one.steps_needed:,} {more} would give 90 %)" if one.steps_needed else ""
    return f"With a probability of {chance}: {one.name}{needed}."
