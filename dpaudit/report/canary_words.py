"""Words for canaries: lower bounds with what they assume, tests, and the mechanism tensor by tensor."""

from __future__ import annotations

from dpaudit.canary_findings import CanaryBound, CanaryEvidence, MechanismRow
from dpaudit.interval import EpsilonInterval, format_lower
from dpaudit.report.rows import BoundRow, CanarySection, TensorRow
from dpaudit.report.sampling_words import test_rows, visible

_THREATS = {
    "white_box": ("white box", "White box: the attacker sees every released update of the training."),
    "black_box": ("black box", "Black box: the attacker sees the finished model only."),
}
_ASSUMES = {
    "claim": (
        "the claimed kind",
        "The claimed kind: holds if what runs is of the claimed kind, fresh Gaussian noise on Poisson "
        "batches, whatever its numbers; the tests below look into that.",
    ),
    "iid": (
        "independent scores",
        "Independent scores: holds only if canaries score independently, as single canaries of separate "
        "runs do; canaries that share a run may not.",
    ),
    "any_dependence": (
        "fair coins alone",
        "Fair coins alone: holds for every (epsilon, delta)-private mechanism, however the scores of "
        "canaries depend on each other.",
    ),
}
# What the notes of a bound say that it rests on besides, by how they begin.
_BESIDES = {
    "assumes that the mechanism": (
        "the claimed curve",
        "The claimed curve: holds if what runs leaves each canary no worse protected than some mechanism of "
        "the claimed kind does, with noise of any size.",
    ),
    "asymptotic": (
        "many runs",
        "Many runs: Student's interval, whose error is nearly, not exactly, the stated one. It never "
        "decides.",
    ),
}
_DECIDES = (
    "Decides: may refute the claim; the errors of all that decides, together, are that of the audit.",
    "For information: the verdict does not rest on it.",
)


def canary_section(canary: CanaryEvidence | None) -> CanarySection:
    """Word all that canaries showed; an empty section where there were none."""
    if canary is None:
        return CanarySection()
    return CanarySection(
        seen=_seen(canary),
        bounds=_bounds(canary.bounds),
        bounds_caption=_bounds_caption(canary),
        legend=_legend(canary.bounds),
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
        lines.append(f"Attack by {bound.attack} ({_THREATS[bound.threat_model][0]}): {amount(bound)}.")
    rejected = len(canary.rejections)
    if canary.tests:
        lines.append(f"{rejected} of {len(canary.tests)} tests of the claimed mechanism were rejected.")
    return tuple(lines)


def amount(bound: CanaryBound) -> str:
    """Count canaries and runs."""
    runs = f" in each of {bound.runs:,} runs" if bound.runs > 1 else " in one run"
    return f"{bound.canaries:,} canar{'y' if bound.canaries == 1 else 'ies'}{runs}"


def _bounds(bounds: tuple[CanaryBound, ...]) -> tuple[BoundRow, ...]:
    """Give each method and attack one row: the deciding ones first, then the strongest."""
    grouped: dict[tuple[object, ...], list[CanaryBound]] = {}
    for bound in bounds:
        same = (bound.interval.method, bound.attack, bound.threat_model, bound.validity)
        grouped.setdefault((*same, bound.canaries, bound.runs), []).append(bound)
    rows = [_row(group) for group in grouped.values()]
    return tuple(sorted(rows, key=lambda row: (not row.deciding, -row.low, -(row.reported_low or 0.0))))


def _row(group: list[CanaryBound]) -> BoundRow:
    """Word the bounds of one method and attack; several of one sort are listed one after the other."""
    bound = group[0]
    deciding = [one.interval for one in group if one.decides]
    reported = [one.interval for one in group if not one.decides]
    runs = f" x {bound.runs:,} runs" if bound.runs > 1 else ""
    known = ("validity class", "plan ")
    remarks = [note for note in (reported or deciding)[0].notes if not note.startswith(known)]
    return BoundRow(
        method=bound.interval.method.replace("_", " "),
        deciding=_levels(deciding),
        reported=_levels(reported),
        threat_model=_THREATS[bound.threat_model][0],
        canaries=f"{bound.canaries:,}{runs}",
        assumes=", ".join(short for short, _ in _assumptions(bound)),
        attack=bound.attack,
        reference=bound.interval.reference,
        remarks="; ".join(remarks),
        low=max(interval.lower for interval in deciding or reported),
        reported_low=max((interval.lower for interval in reported), default=None),
    )


def _assumptions(bound: CanaryBound) -> list[tuple[str, str]]:
    """List what a bound rests on, each in short and in full."""
    notes = bound.interval.notes
    besides = [words for begin, words in _BESIDES.items() if any(note.startswith(begin) for note in notes)]
    if bound.validity == "any_dependence" and besides:
        return besides
    return [_ASSUMES[bound.validity], *besides]


def _levels(intervals: list[EpsilonInterval]) -> str:
    return "; ".join(f"{format_lower(one.lower)} at {in_percent(one.confidence)}" for one in intervals)


def in_percent(confidence: float) -> str:
    """Write a confidence so that 99.99 % and 99.9933 % stay apart."""
    return f"{100 * confidence:.6g}\u00a0%"


def _bounds_caption(canary: CanaryEvidence) -> str:
    if not canary.bounds:
        return ""
    interval = canary.bounds[0].interval
    return (
        f"Lower bounds on epsilon at delta = {interval.delta:g}, {interval.adjacency}; rounded down. "
        "A small bound is no sign of privacy: a stronger attack may find more."
    )


def _legend(bounds: tuple[CanaryBound, ...]) -> tuple[str, ...]:
    """Explain the words that the table uses, each once."""
    words = [_THREATS[bound.threat_model][1] for bound in bounds]
    words += [meaning for bound in bounds for _, meaning in _assumptions(bound)]
    return (*dict.fromkeys(words), *(_DECIDES if bounds else ()))


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
