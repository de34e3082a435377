from __future__ import annotations

import math
from dataclasses import replace

import pytest

from dpaudit.canary_findings import CanaryBound, CanaryEvidence
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.findings import Alternative, HypothesisTest, ObservedScheme, RateEstimate
from dpaudit.interval import EpsilonInterval
from dpaudit.scheme import Poisson, Shuffle
from dpaudit.verdict import Outcome, Verdict, decide

CLAIM = PrivacyClaim(epsilon=2.0, delta=1e-5)
TEST = HypothesisTest(
    rule="DPA110",
    name="overlap",
    null_hypothesis="steps overlap as chance would have it",
    statistic=0.0,
    p_value=1e-9,
    adjusted_p_value=1e-8,
    rejected=True,
)
FITS = ObservedScheme(
    scheme=Poisson(0.1),
    description="Poisson sampling at rate 0.1",
    rejects_poisson=False,
    contradicts_claim=False,
    tests=(replace(TEST, p_value=0.5, adjusted_p_value=1.0, rejected=False),),
    compatible=(Poisson(0.1),),
    rate=RateEstimate(claimed=0.1, estimate=0.1, low=0.09, high=0.11),
    alternatives=(Alternative(name="a shuffled epoch", power=1.0, steps_needed=4, of_interest=True),),
    steps=400,
    num_records=1000,
    draws=40_000,
    family_wise_error=1e-3,
)
SHUFFLED = replace(
    FITS,
    scheme=Shuffle(100),
    compatible=(Shuffle(100),),
    description="shuffled epochs",
    rejects_poisson=True,
    contradicts_claim=True,
    tests=(TEST,),
)
SHORT = replace(
    FITS, alternatives=(Alternative(name="a shuffled epoch", power=0.2, steps_needed=4, of_interest=True),)
)


def interval(lower: float, upper: float, **change) -> EpsilonInterval:
    given = {"delta": 1e-5, "adjacency": "zero_out", **change}
    return EpsilonInterval(lower=lower, upper=upper, **given)


def bound(lower: float, decides: bool = True, **change) -> CanaryBound:
    return CanaryBound(
        interval=interval(lower, math.inf, confidence=0.999, **change),
        validity="any_dependence",
        threat_model="white_box",
        attack="likelihood ratio",
        canaries=1000,
        runs=10,
        decides=decides,
    )


def canary(*bounds: CanaryBound, **change) -> CanaryEvidence:
    return CanaryEvidence(bounds=bounds, **change)


KEPT = replace(TEST, rule="DPA302", name="noise scale", p_value=0.5, adjusted_p_value=1.0, rejected=False)
BROKEN = replace(TEST, rule="DPA302", name="noise scale")
UNSEEN = Alternative(name="noise 10 % too small", power=0.3, steps_needed=90, of_interest=True)


CLAIMED = interval(1.9, 1.99)


@pytest.mark.parametrize(
    ("evidence", "outcome"),
    [
        (Evidence(observed=FITS, claimed=CLAIMED, observed_interval=CLAIMED), Outcome.CONSISTENT),
        (Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(4, 8)), Outcome.REFUTED),
        (Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(1, 8)), Outcome.UNSUPPORTED),
        (
            Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(1, math.inf)),
            Outcome.UNSUPPORTED,
        ),
        (Evidence(observed=SHUFFLED, claimed=CLAIMED), Outcome.UNSUPPORTED),
        (Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(1, 2)), Outcome.CONSISTENT),
        (Evidence(observed=SHORT, claimed=CLAIMED, observed_interval=CLAIMED), Outcome.INCONCLUSIVE),
        (Evidence(claimed=CLAIMED, canary=canary(bound(2.5))), Outcome.REFUTED),
        (Evidence(claimed=CLAIMED, canary=canary(bound(1.5))), Outcome.CONSISTENT),
        (Evidence(claimed=CLAIMED, canary=canary(bound(2.5, decides=False))), Outcome.INCONCLUSIVE),
        (Evidence(claimed=CLAIMED, canary=canary(tests=(KEPT,))), Outcome.CONSISTENT),
        (Evidence(claimed=CLAIMED, canary=canary(tests=(BROKEN,))), Outcome.CONSISTENT),
        (
            Evidence(claimed=CLAIMED, canary=canary(tests=(BROKEN,), contradicts_claim=True)),
            Outcome.UNSUPPORTED,
        ),
        (
            Evidence(claimed=CLAIMED, canary=canary(bound(1.5), tests=(KEPT,), alternatives=(UNSEEN,))),
            Outcome.INCONCLUSIVE,
        ),
        (Evidence(), Outcome.INCONCLUSIVE),
    ],
)
def test_the_rules_in_their_order(evidence, outcome) -> None:
    verdict = decide(CLAIM, evidence)
    assert verdict.outcome is outcome
    assert verdict.reasons
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_a_claim_below_its_own_accountant_is_refuted() -> None:
    too_small = replace(CLAIM, epsilon=1.0)
    evidence = Evidence(observed=FITS, claimed=CLAIMED, observed_interval=CLAIMED)
    assert decide(too_small, evidence).outcome is Outcome.REFUTED


def test_equality_is_not_refutation() -> None:
    exact = interval(2.0, 2.0)
    evidence = Evidence(observed=FITS, claimed=exact, observed_interval=exact)
    assert decide(CLAIM, evidence).outcome is Outcome.CONSISTENT
    just_above = interval(math.nextafter(2.0, 3), 2.1)
    assert decide(CLAIM, replace(evidence, observed_interval=just_above)).outcome is Outcome.REFUTED


def test_without_a_number_the_accountant_of_the_claimed_scheme_stands_in() -> None:
    evidence = Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(4, 8))
    assert decide(replace(CLAIM, epsilon=None), evidence).outcome is Outcome.REFUTED


def test_without_any_number_sampling_alone_decides() -> None:
    nothing = PrivacyClaim()
    assert decide(nothing, Evidence(observed=SHUFFLED)).outcome is Outcome.UNSUPPORTED
    assert decide(nothing, Evidence(observed=FITS)).outcome is Outcome.CONSISTENT


@pytest.mark.parametrize("change", [{"delta": 1e-6}, {"adjacency": "replace_one"}, {"unit": "user"}])
def test_bounds_of_another_meaning_are_refused(change) -> None:
    evidence = Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(4, 8, **change))
    with pytest.raises(ValueError, match=next(iter(change))):
        decide(CLAIM, evidence)


def test_a_bound_at_another_delta_than_the_claim_is_refused() -> None:
    with pytest.raises(ValueError, match="delta"):
        decide(CLAIM, Evidence(canary=canary(bound(4, delta=1e-6))))


def test_the_worst_test_is_named_after_the_decisive_reason() -> None:
    verdict = decide(CLAIM, Evidence(observed=SHUFFLED, claimed=CLAIMED, observed_interval=interval(1, 8)))
    assert [reason.rule for reason in verdict.reasons] == ["DPA202", "DPA110"]


def test_what_is_missing_is_said() -> None:
    verdict = decide(CLAIM, Evidence(observed=SHORT, claimed=CLAIMED, observed_interval=CLAIMED))
    assert "4 steps are needed" in verdict.reasons[0].sentence


def test_more_noise_than_claimed_is_named_and_not_held_against_the_claim() -> None:
    verdict = decide(CLAIM, Evidence(claimed=CLAIMED, canary=canary(bound(1.5), tests=(BROKEN,))))
    assert "to the side of more privacy (noise scale)" in verdict.reasons[0].sentence


def test_a_canary_audit_names_the_strongest_bound_that_canaries_found() -> None:
    """The accountant's own lower end is close to the claim whatever the canaries see."""
    seen = Evidence(claimed=CLAIMED, canary=canary(bound(1.5), bound(1.2), tests=(KEPT,)))
    sentence = decide(CLAIM, seen).reasons[0].sentence
    assert "the strongest lower bound that canaries found, 1.500, does not exceed" in sentence
    alone = Evidence(observed=FITS, claimed=CLAIMED, observed_interval=CLAIMED)
    assert (
        "the strongest lower bound found, 1.899, does not exceed" in decide(CLAIM, alone).reasons[0].sentence
    )
