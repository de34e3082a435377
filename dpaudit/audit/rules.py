"""Every rule id with its meaning: the registry behind `dpaudit explain` and docs/rules."""

from __future__ import annotations

from dpaudit.audit.canary_rules import CANARY_RULES
from dpaudit.sampling.rules import RULES as SAMPLING_RULES
from dpaudit.sampling.rules import Rule

_DECISION = "Decided from the evidence by fixed rules, on unrounded numbers; see `dpaudit.decide`"
_GATE = "Compared with the project's policy by `dpaudit gate`"

_VERDICT_RULES = (
    Rule(
        id="DPA100",
        title="too few steps were watched",
        null_hypothesis="The steps watched would have shown every deviation of interest with power 0.9",
        method="Power of each test at the family-wise level, against stated alternatives",
        misses="Alternatives that are not listed",
        fix="Watch the number of steps that the report names (--steps).",
    ),
    Rule(
        id="DPA101",
        title="not refuted",
        null_hypothesis="The batches agree with the claimed sampling and no lower bound exceeds the claim",
        method=_DECISION,
        misses="Everything that the report lists under its limits; this is not a proof of privacy",
        fix="Nothing to fix.",
    ),
    Rule(
        id="DPA201",
        title="a lower bound exceeds the claim",
        null_hypothesis="The mechanism that runs is (epsilon, delta)-DP with the claimed numbers",
        method=_DECISION
        + ". The lower bound is proved for some data and gradients with the observed sampling",
        misses="Leaks that the observed sampling does not cause",
        fix="Sample as claimed, or claim the epsilon of what runs, or add the noise that the report names.",
        source="arXiv:2403.17673, arXiv:2411.04205",
    ),
    Rule(
        id="DPA202",
        title="the proof does not cover what runs",
        null_hypothesis="The sampling that runs is the one that the accountant assumed",
        method=_DECISION + ". No upper bound that is proved for the observed sampling is within the claim",
        misses="Proofs that are not known to this version",
        fix="Sample as claimed, or claim an epsilon that is proved for what runs.",
        source="arXiv:2406.17298",
    ),
    Rule(
        id="DPA203",
        title="another sampling, within the claim",
        null_hypothesis="The sampling that runs has a proved epsilon within the claim",
        method=_DECISION,
        misses="Nothing about the claim, but its stated sampling is not what runs",
        fix="State the sampling that runs.",
    ),
    Rule(
        id="DPA300",
        title="another mechanism than was claimed",
        null_hypothesis="Noise, clipping and sampling of the released updates are those of the claim",
        method=_DECISION + ". At least one test of the released updates is rejected, family-wise over all",
        misses="Parts of the mechanism that no canary reaches",
        fix="See the rules of the tests that are rejected: each names the part and its usual cause.",
        source="arXiv:2302.07956",
    ),
    Rule(
        id="DPA301",
        title="an audit's lower bound exceeds the claim",
        null_hypothesis="The mechanism that runs is (epsilon, delta)-DP with the claimed numbers",
        method=_DECISION + ". The lower bound comes from canaries and holds with the stated confidence",
        misses="Leaks that the canaries cannot show",
        fix="Check noise scale, clipping and the gradient sum of every parameter.",
        source="arXiv:2305.08846, arXiv:2410.22235",
    ),
    Rule(
        id="DPA400",
        title="nothing to weigh",
        null_hypothesis="There is evidence on the claim",
        method=_DECISION,
        misses="",
        fix="Give a loader, a trace or canary scores.",
    ),
    Rule(
        id="DPA401",
        title="epsilon above the limit",
        null_hypothesis="The claimed epsilon is at most the policy's max_epsilon",
        method=_GATE,
        misses="Whether the limit is a good one",
        fix="Lower epsilon, or change the policy where that is justified.",
    ),
    Rule(
        id="DPA402",
        title="a required audit is missing",
        null_hypothesis="Every audit that the policy requires is there",
        method=_GATE,
        misses="",
        fix="Run the audit, or take it from the list.",
    ),
    Rule(
        id="DPA403",
        title="a required field is not stated",
        null_hypothesis="The claim states every field that the policy requires",
        method=_GATE,
        misses="Whether what is stated is true",
        fix="State the field in the claim file.",
    ),
    Rule(
        id="DPA404",
        title="worse than the baseline",
        null_hypothesis="Verdict and epsilon are no worse than in the baseline report",
        method=_GATE,
        misses="Faults that the baseline already had",
        fix="Undo the change, or accept the new report as baseline.",
    ),
    Rule(
        id="DPA405",
        title="an expired waiver",
        null_hypothesis="No waiver is past its last day",
        method=_GATE,
        misses="",
        fix="Fix what was waived, or have the waiver approved anew.",
    ),
    Rule(
        id="DPA406",
        title="an unused waiver",
        null_hypothesis="Every waiver matches a finding",
        method=_GATE,
        misses="",
        fix="Delete the waiver.",
    ),
    Rule(
        id="DPA407",
        title="an audit could not be made",
        null_hypothesis="What the claim file asks for can be run to its end",
        method="Run by `dpaudit check`, each audit in a process of its own",
        misses="Whether the claim is true: nothing was decided",
        fix="Put right what the message says; `dpaudit check FILE --jobs 0` runs it under a debugger.",
    ),
    Rule(
        id="DPA408",
        title="not the expected verdict",
        null_hypothesis="The audit reaches the verdict that its claim file expects",
        method="Compared by `dpaudit check` with `expected` of the claim file",
        misses="",
        fix="Find out what changed: the loader, the claim, or dpaudit. Then mend it, or the expectation.",
    ),
)

RULES: dict[str, Rule] = {
    rule.id: rule for rule in (*_VERDICT_RULES, *CANARY_RULES, *SAMPLING_RULES.values())
}
"""By id; an id never changes its meaning."""


def explain(rule: Rule) -> str:
    """Give the page of a rule as Markdown."""
    parts = [
        f"# {rule.id}: {rule.title}",
        f"**What is tested.** {rule.null_hypothesis}.",
        f"**How.** {rule.method.rstrip('.')}.",
    ]
    if rule.misses:
        parts.append(f"**What it misses.** {rule.misses.rstrip('.')}.")
    parts.append(f"**How to fix it.** {rule.fix}")
    if rule.effect_unit:
        parts.append(f"**Effect size.** {rule.effect_unit}.")
    parts.append(f"**Source.** {rule.source}")
    return "\n\n".join(parts) + "\n"
