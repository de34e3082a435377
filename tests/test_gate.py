from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpaudit.audit_report import AuditReport
from dpaudit.config import Config, read_config
from dpaudit.errors import DpauditError
from dpaudit.findings import Alternative
from dpaudit.gate import applied_waivers, pass_gate
from dpaudit.policy import INCONCLUSIVE_LEVELS, LEVELS, GatePolicy, Waiver
from dpaudit.verdict import Outcome, decide
from tests.sample_report import sample_report

TODAY = date(2026, 6, 1)
SAMPLE = sample_report()
WAIVER = Waiver(rule="DPA201", reason="known", until=date(2026, 6, 1), approved_by="Officer")
OTHER = replace(WAIVER, rule="DPA301")
MECHANISM = replace(WAIVER, rule="DPA300")
ALL = (WAIVER, OTHER, MECHANISM)
"""What the sample report is refuted by, and what else speaks against its claim."""


def with_outcome(report: AuditReport, outcome: Outcome) -> AuditReport:
    return replace(report, verdict=replace(report.verdict, outcome=outcome))


@pytest.fixture
def fine(report: AuditReport) -> AuditReport:
    return with_outcome(report, Outcome.CONSISTENT)


def gate(reports, policy=None, **more):
    return pass_gate(reports, policy or GatePolicy(), today=TODAY, **more)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.CONSISTENT, 0),
        (Outcome.REFUTED, 1),
        (Outcome.UNSUPPORTED, 1),
        (Outcome.INCONCLUSIVE, 3),
    ],
)
def test_verdicts_decide(report, outcome, code) -> None:
    assert gate({"a": with_outcome(report, outcome)}).exit_code == code


def test_aggregation_is_pessimistic(report, fine) -> None:
    unsure = with_outcome(report, Outcome.INCONCLUSIVE)
    assert gate({"a": fine, "b": unsure}).exit_code == 3
    assert gate({"a": fine, "b": unsure, "c": report}).exit_code == 1


@pytest.mark.parametrize(("level", "code"), [("inconclusive", 3), ("error", 1), ("warn", 0), ("off", 0)])
def test_what_inconclusive_counts_as(report, level, code) -> None:
    unsure = with_outcome(report, Outcome.INCONCLUSIVE)
    assert gate({"a": unsure}, GatePolicy(inconclusive=level)).exit_code == code


def test_limit_compares_unrounded(fine) -> None:
    assert gate({"a": fine}, GatePolicy(max_epsilon=2.0)).exit_code == 0
    assert gate({"a": fine}, GatePolicy(max_epsilon=1.9999999999)).exit_code == 1


def test_no_epsilon_is_not_within_a_limit(fine) -> None:
    silent = replace(fine, claim=replace(fine.claim, epsilon=None), assumed=True)
    assert gate({"a": silent}, GatePolicy(max_epsilon=100.0)).exit_code == 1


def test_required_audits_and_fields(fine) -> None:
    assert gate({"a": fine}, GatePolicy(required=("a",))).exit_code == 0
    assert gate({"a": fine}, GatePolicy(required=("b",))).findings[0].rule == "DPA402"
    assert gate({"a": fine}, GatePolicy(required_fields=("delta",))).exit_code == 0
    assert gate({"a": fine}, GatePolicy(required_fields=("unit",))).findings[0].rule == "DPA403"


def test_a_single_test_can_count(fine) -> None:
    assert gate({"a": fine}, GatePolicy(rules={"DPA110": "error"})).exit_code == 1
    assert gate({"a": fine}, GatePolicy(rules={"DPA110": "warn"})).exit_code == 0
    assert gate({"a": fine}, GatePolicy(rules={"DPA109": "error"})).exit_code == 0


def test_waivers_last_to_the_end_of_their_day(report) -> None:
    assert gate({"a": report}, waivers=ALL).exit_code == 0
    expired = [replace(one, until=date(2026, 5, 31)) for one in ALL]
    outcome = gate({"a": report}, waivers=expired)
    assert outcome.exit_code == 1
    assert "expired" in outcome.findings[-1].sentence


def test_every_refutation_needs_its_own_waiver(report) -> None:
    assert {reason.rule for reason in report.verdict.reasons} == {"DPA201", "DPA301"}
    left = [finding for finding in gate({"a": report}, waivers=[WAIVER]).findings if finding.level == "error"]
    assert [finding.rule for finding in left] == ["DPA301", "DPA300"]


def test_waiving_a_refutation_does_not_waive_another_mechanism(report) -> None:
    left = gate({"a": report}, waivers=[WAIVER, OTHER]).findings
    assert [one.rule for one in left if one.level == "error"] == ["DPA300"]
    assert "Unsupported: What runs is not the mechanism" in left[-1].sentence


def test_waiving_another_sampling_does_not_waive_another_mechanism(report) -> None:
    claim = replace(report.claim, epsilon=1e3)
    both = replace(report, claim=claim, verdict=decide(claim, report.evidence))
    assert both.verdict.outcome is Outcome.UNSUPPORTED
    waivers = [replace(WAIVER, rule="DPA202"), MECHANISM]
    assert [one.rule for one in gate({"a": both}).findings] == ["DPA202", "DPA300"]
    assert gate({"a": both}, waivers=waivers[:1]).exit_code == 1
    assert gate({"a": both}, waivers=waivers[1:]).exit_code == 1
    assert gate({"a": both}, waivers=waivers).exit_code == 0


def test_waiving_another_sampling_does_not_make_canaries_conclusive(report) -> None:
    weak = Alternative(name="half the noise", power=0.1, steps_needed=None, of_interest=True)
    quiet = {"bounds": (), "tests": (), "contradicts_claim": False}
    canary = replace(report.evidence.canary, alternatives=(weak,), **quiet)
    claim, evidence = replace(report.claim, epsilon=1e3), replace(report.evidence, canary=canary)
    unsure = replace(report, claim=claim, evidence=evidence, verdict=decide(claim, evidence))
    assert gate({"a": unsure}, waivers=[replace(WAIVER, rule="DPA202")]).exit_code == 3


def test_expired_waivers_fail_even_unused(fine) -> None:
    assert gate({"a": fine}, waivers=[replace(WAIVER, until=date(2026, 5, 31))]).exit_code == 1


def test_unused_and_foreign_waivers_do_not_help(report, fine) -> None:
    unused = gate({"a": fine}, waivers=[WAIVER])
    assert (unused.exit_code, unused.findings[0].level) == (0, "warn")
    assert gate({"a": report}, waivers=[replace(WAIVER, audit="b"), OTHER]).exit_code == 1
    assert gate({"a": report}, waivers=[replace(WAIVER, rule="DPA202"), OTHER]).exit_code == 1


def test_a_report_shows_the_waivers_that_meet_it(report, fine) -> None:
    expired = replace(OTHER, until=date(2026, 5, 31))
    config = Config(waivers=(WAIVER, expired, replace(WAIVER, audit="b"), replace(WAIVER, rule="DPA202")))
    shown = applied_waivers("a", report, config, today=TODAY)
    assert [(one.rule, one.expired) for one in shown] == [("DPA201", False), ("DPA301", True)]
    assert shown[0].finding.startswith("Refuted: ")
    assert (shown[0].reason, shown[0].approved_by) == ("known", "Officer")
    assert applied_waivers("a", fine, config, today=TODAY) == ()


def test_every_rule_has_a_level(report, fine) -> None:
    lenient = {"DPA201": "warn", "DPA301": "off", "DPA300": "off"}
    outcome = gate({"a": report}, GatePolicy(rules=lenient))
    assert outcome.exit_code == 0
    assert [(finding.rule, finding.level) for finding in outcome.findings] == [("DPA201", "warn")]
    assert gate({"a": report}, GatePolicy(rules={"DPA201": "off"})).exit_code == 1
    limited = GatePolicy(max_epsilon=1.0, rules={"DPA401": "warn"})
    assert gate({"a": fine}, limited).exit_code == 0
    strict = GatePolicy(rules={"DPA406": "error"})
    assert gate({"a": fine}, strict, waivers=[WAIVER]).exit_code == 1


def test_a_rule_speaks_louder_than_what_inconclusive_counts_as(report) -> None:
    unsure = with_outcome(report, Outcome.INCONCLUSIVE)
    rule = unsure.verdict.reasons[0].rule
    assert gate({"a": unsure}, GatePolicy(inconclusive="off", rules={rule: "error"})).exit_code == 1


def test_a_verdict_without_a_reason_still_counts(report) -> None:
    bare = replace(report, verdict=replace(report.verdict, reasons=()))
    assert gate({"a": bare}).exit_code == 1


def test_baseline(report, fine) -> None:
    assert gate({"a": fine}, baseline={"a": report}).exit_code == 0
    assert gate({"a": with_outcome(report, Outcome.INCONCLUSIVE)}, baseline={"a": fine}).exit_code == 1
    larger = replace(fine, claim=replace(fine.claim, epsilon=2.1))
    assert gate({"a": larger}, baseline={"a": fine}).findings[0].rule == "DPA404"
    assert gate({"a": fine}, baseline={"a": larger}).exit_code == 0


def test_one_report_meets_one_baseline_whatever_they_are_called(report, fine) -> None:
    assert gate({"a": report}, baseline={"main": fine}).findings[-1].rule == "DPA404"
    assert gate({"a": fine}, baseline={"main": fine}).exit_code == 0


def test_an_audit_that_is_gone_is_worse_than_the_baseline(fine) -> None:
    outcome = gate({"a": fine, "c": fine}, baseline={"a": fine, "b": fine})
    assert [(finding.rule, finding.audit) for finding in outcome.findings] == [("DPA404", "b")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"delta": 1e-4}, 1),
        ({"delta": 1e-6}, 0),
        ({"adjacency": "replace_one"}, 1),
        ({"adjacency": None}, 1),
        ({"unit": "user"}, 1),
    ],
)
def test_epsilons_compare_only_at_equal_terms(fine, change, code) -> None:
    before = replace(fine, claim=replace(fine.claim, adjacency="add_or_remove_one", unit="record"))
    after = replace(before, claim=replace(before.claim, **change))
    assert gate({"a": after}, baseline={"a": before}).exit_code == code


SETS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from(Outcome), max_size=5)
POLICIES = st.builds(
    GatePolicy,
    max_epsilon=st.none() | st.sampled_from([1.0, 2.0, 3.0]),
    required=st.lists(st.sampled_from("abcde"), max_size=2).map(tuple),
    inconclusive=st.sampled_from(INCONCLUSIVE_LEVELS),
    rules=st.dictionaries(
        st.sampled_from(["DPA110", "DPA201", "DPA301", "DPA401", "DPA402"]), st.sampled_from(LEVELS)
    ),
)
WAIVERS = st.lists(
    st.builds(
        Waiver,
        rule=st.sampled_from(["DPA201", "DPA301", "DPA401", "DPA402"]),
        reason=st.just("r"),
        until=st.sampled_from([date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)]),
        approved_by=st.just("o"),
        audit=st.none() | st.sampled_from("abcde"),
    ),
    max_size=3,
)
GRAVITY = [0, 3, 1]
"""Exit codes from the mildest to the gravest."""


@given(SETS, POLICIES, WAIVERS, st.sampled_from("abcde"))
def test_aggregation_is_that_of_the_gravest_audit(outcomes, policy, waivers, name) -> None:
    reports = {one: with_outcome(SAMPLE, outcome) for one, outcome in outcomes.items()}
    unrequired = replace(policy, required=())
    alone = [
        gate({one: report}, unrequired, waivers=[w for w in waivers if w.until >= TODAY]).exit_code
        for one, report in reports.items()
    ]
    together = gate(reports, policy, waivers=waivers)
    assert GRAVITY.index(together.exit_code) >= max(map(GRAVITY.index, alone), default=0)
    missing = set(policy.required) - set(reports)
    named = {finding.audit for finding in together.findings if finding.rule == "DPA402"}
    assert named == (set() if policy.rules.get("DPA402") == "off" else missing)
    if any(waiver.until < TODAY for waiver in waivers):
        assert together.exit_code == 1
    # An audit more never makes a failed set pass, unless it was the one that was missed.
    if name not in reports and name not in policy.required and not waivers:
        more = gate({**reports, name: SAMPLE}, policy)
        assert GRAVITY.index(more.exit_code) >= GRAVITY.index(together.exit_code)


@given(st.floats(min_value=0, max_value=50), st.floats(min_value=1e-9, max_value=50))
def test_the_limit_is_exact(epsilon: float, limit: float) -> None:
    report = with_outcome(SAMPLE, Outcome.CONSISTENT)
    claimed = replace(report, claim=replace(report.claim, epsilon=epsilon))
    assert gate({"a": claimed}, GatePolicy(max_epsilon=limit)).exit_code == (1 if epsilon > limit else 0)


CONFIG = """
[gate]
max_epsilon = 8
required = ["training"]
rules = { DPA103 = "warn" }
[[waiver]]
rule = "DPA202"
reason = "r"
until = 2027-01-31
approved_by = "o"
"""


def test_config_of_either_file(tmp_path) -> None:
    assert read_config(tmp_path).gate == GatePolicy()
    prefixed = CONFIG.replace("[gate]", "[tool.dpaudit.gate]").replace(
        "[[waiver]]", "[[tool.dpaudit.waiver]]"
    )
    (tmp_path / "pyproject.toml").write_text(prefixed)
    from_pyproject = read_config(tmp_path)
    (tmp_path / "dpaudit.toml").write_text(CONFIG)
    own = read_config(tmp_path)
    assert own.gate == from_pyproject.gate
    assert own.gate.max_epsilon == 8.0
    assert own.waivers[0].until == date(2027, 1, 31)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_epsilon", "max_epsilom", "max_epsilom"),
        ("max_epsilon = 8", "max_epsilon = 'x'", "max_epsilon"),
        ("max_epsilon = 8", "max_epsilon = nan", "max_epsilon"),
        ('"warn"', '"warning"', "warning"),
        ('["training"]', '"training"', "required"),
        ("2027-01-31", '"soon"', "until"),
        ('reason = "r"', "", "reason"),
        ('reason = "r"', 'reason = " "', "reason"),
        ('approved_by = "o"', 'approved_by = ""', "approved_by"),
        ('approved_by = "o"', 'approved_by = "o"\naudit = 3', "audit"),
        ("DPA202", "DPA20", "DPA20"),
        ("DPA103 =", "DPA1003 =", "DPA1003"),
        ('DPA103 = "warn"', 'DPA405 = "warn"', "expired waiver always fails"),
        ("max_epsilon = 8", 'inconclusive = "fine"', "fine"),
        ("[gate]", "[gates]", "gates"),
        ("[gate]", "[gate", "TOML"),
    ],
)
def test_wrong_configuration_is_refused_by_name(tmp_path, old, new, message) -> None:
    (tmp_path / "dpaudit.toml").write_text(CONFIG.replace(old, new))
    with pytest.raises(DpauditError, match=message):
        read_config(tmp_path)


def test_a_named_configuration_must_exist(tmp_path) -> None:
    with pytest.raises(DpauditError, match=r"absent\.toml"):
        read_config(tmp_path, tmp_path / "absent.toml")


@pytest.mark.parametrize("text", ["tool = 5", "[tool]\ndpaudit = 5"])
def test_a_pyproject_of_another_form_is_refused_by_name(tmp_path, text) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(DpauditError, match="= 5 must be a table"):
        read_config(tmp_path)
