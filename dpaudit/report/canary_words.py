"""Words for canaries: lower bounds with what they assume, tests, and the mechanism tensor by tensor."""

from __future__ import annotations

from dpaudit.canary_findings import CanaryBound, CanaryEvidence, MechanismRow
from dpaudit.interval import format_lower
from dpaudit.report.rows import BoundRow, CanarySection, TensorRow
from dpaudit.report.sampling_words import test_rows, visible

_THREATS = {
    "white_box": ("white box", "White box: the attacker sees every released update of the training."),
    "black_box": ("black box", "Black box: the attacker sees the finished model only."),
}
_ASSUMES = {
    "claim": ("the claim", "The claim: tests the claimed mechanism itself and bounds no other one."),
    "iid": (
        "independent scores",
        "Independent scores: holds only if canaries score independently, which training does not promise.",
    ),
    "any_dependence": ("nothing", "Nothing: holds however the scores of canaries depend on each other."),
}
_DECIDES = {
    True: ("DECIDES", "DECIDES: may refute the claim; its confidence is that of the whole audit."),
    False: ("REPORTED", "REPORTED: for information; the verdict does not rest on it."),
}


def canary_section(canary: CanaryEvidence | None) -> CanarySection:
    """Word all that canaries showed; an empty section where there were none."""
    if canary is None:
        return CanarySection()
    # The deciding ones first, then the strongest: what a reader looks for is on top.
    bounds = sorted(canary.bounds, key=lambda bound: (not bound.decides, -bound.interval.lower))
    return CanarySection(
        seen=_seen(canary),
        bounds=tuple(_bound(bound) for bound in bounds),
        bounds_caption=_bounds_caption(canary),
        legend=_legend(bounds),
        tests=test_rows(canary.tests),
        tests_caption=(
            "Tests of the released updates against the claimed mechanism; p-values are adjusted for all "
            f"tests and deciding bounds together: a true claim is accused with probability of at most "
            f"{canary.family_wise_error:g}."
        ),
        mechanism=tuple(_tensor(row) for row in canary.mechanism),
        mechanism_caption=_mechanism_caption(canary.mechanism),
        setting=_setting(canary),
        visible=() if canary.contradicts_claim else visible(canary.alternatives, "further steps"),
    )


def _seen(canary: CanaryEvidence) -> tuple[str, ...]:
    lines = []
    for attack in dict.fromkeys((bound.attack, bound.threat_model) for bound in canary.bounds):
        bound = next(one for one in canary.bounds if (one.attack, one.threat_model) == attack)
        lines.append(f"Attack by {bound.attack} ({_THREATS[bound.threat_model][0]}): {_amount(bound)}.")
    rejected = len(canary.rejections)
    if canary.tests:
        lines.append(f"{rejected} of {len(canary.tests)} tests of the claimed mechanism were rejected.")
    return tuple(lines)


def _amount(bound: CanaryBound) -> str:
    runs = f" in each of {bound.runs:,} runs" if bound.runs > 1 else " in one run"
    return f"{bound.canaries:,} canaries{runs}"


def _bound(bound: CanaryBound) -> BoundRow:
    interval = bound.interval
    runs = f" x {bound.runs:,} runs" if bound.runs > 1 else ""
    return BoundRow(
        method=interval.method.replace("_", " "),
        lower=format_lower(interval.lower),
        confidence=f"{100 * interval.confidence:.6g} %",
        threat_model=_THREATS[bound.threat_model][0],
        canaries=f"{bound.canaries:,}{runs}",
        assumes=_ASSUMES[bound.validity][0],
        decides=_DECIDES[bound.decides][0],
        attack=bound.attack,
        reference=interval.reference,
        low=interval.lower,
    )


def _bounds_caption(canary: CanaryEvidence) -> str:
    if not canary.bounds:
        return ""
    interval = canary.bounds[0].interval
    return (
        f"Lower bounds on epsilon at delta = {interval.delta:g}, {interval.adjacency}; rounded down. "
        "A small bound is no sign of privacy: a stronger attack may find more."
    )


def _legend(bounds: list[CanaryBound]) -> tuple[str, ...]:
    """Explain the words that the table uses, each once."""
    words = [_THREATS[bound.threat_model][1] for bound in bounds]
    words += [_ASSUMES[bound.validity][1] for bound in bounds]
    words += [_DECIDES[bound.decides][1] for bound in bounds]
    return tuple(dict.fromkeys(words))


def _setting(canary: CanaryEvidence) -> tuple[tuple[str, str], ...]:
    plan = (("Plan, fixed before looking", canary.plan),) if canary.plan else ()
    return (*canary.setting, *plan)


def _tensor(row: MechanismRow) -> TensorRow:
    sensitivity, word = "no canary here", ""
    if row.sensitivity is not None:
        sensitivity = _estimate(row.sensitivity, row.sensitivity_low, row.sensitivity_high)
        above = row.sensitivity_low is not None and row.sensitivity_low > 1
        word = "MORE than the clip norm" if above else "within the clip norm"
    return TensorRow(
        tensor=row.tensor,
        observations=f"{row.observations:,}",
        noise=_estimate(row.noise_ratio, row.noise_low, row.noise_high),
        noise_word=noise_word(row),
        sensitivity=sensitivity,
        sensitivity_word=word,
    )


def noise_word(row: MechanismRow) -> str:
    """Say on which side of the claimed noise the interval lies."""
    if row.noise_high < 1:
        return "LESS than claimed"
    return "MORE than claimed" if row.noise_low > 1 else "as claimed"


def _estimate(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"{value:.4g}"
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def _mechanism_caption(rows: tuple[MechanismRow, ...]) -> str:
    if not rows:
        return ""
    return (
        "Noise: its standard deviation over the claimed one. Sensitivity: what one participation adds, over "
        f"the clip norm. In brackets {100 * rows[0].confidence:.4g} % confidence intervals of each row by "
        "itself, so a few of many may miss 1 by chance; the tests above decide."
    )
