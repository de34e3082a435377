from __future__ import annotations

import numpy as np
import pytest

from dpaudit.audit.sampling import Subject, audit_sampling, sampling_rate
from dpaudit.audit.summary import summarise
from dpaudit.audit_report import AuditReport, Status
from dpaudit.claim import PrivacyClaim
from dpaudit.provenance import collect
from dpaudit.scheme import (
    BallsInBins,
    BMinSepPoisson,
    CyclicPoisson,
    Poisson,
    Shuffle,
    Unrecognised,
    WeightedPoisson,
)
from dpaudit.trace import SamplingTrace
from dpaudit.verdict import Outcome

N, BATCH, STEPS = 1000, 50, 200
CLAIM = PrivacyClaim(delta=1e-5, noise_multiplier=1.0, epochs=10, scheme=Poisson(0.05))


def poisson_trace(rate: float = 0.05, seed: int = 0) -> SamplingTrace:
    rng = np.random.default_rng(seed)
    return SamplingTrace.from_batches(
        [np.flatnonzero(rng.random(N) < rate) for _ in range(STEPS)], num_records=N
    )


def shuffled_trace() -> SamplingTrace:
    rng = np.random.default_rng(0)
    epochs = [rng.permutation(N).reshape(-1, BATCH) for _ in range(STEPS * BATCH // N)]
    return SamplingTrace.from_batches(np.concatenate(epochs), num_records=N)


def audit(trace: SamplingTrace, claim: PrivacyClaim, **more) -> AuditReport:
    return audit_sampling(
        trace,
        claim,
        subject=Subject(title="t", target="t.py"),
        provenance=collect(command=["x"]),
        figure_seconds=0.0,
        **more,
    )


@pytest.fixture(scope="module")
def shuffled() -> AuditReport:
    return audit(shuffled_trace(), CLAIM)


def test_poisson_as_claimed_is_consistent() -> None:
    report = audit(poisson_trace(), CLAIM)
    assert report.verdict.outcome is Outcome.CONSISTENT
    assert not report.assumed
    assert report.advice == ()
    claimed = report.evidence.claimed
    assert report.evidence.observed_interval == claimed
    assert claimed.adjacency == "add_or_remove_one"


def test_the_shortcut_is_refuted(shuffled: AuditReport) -> None:
    assert shuffled.verdict.outcome is Outcome.REFUTED
    evidence = shuffled.evidence
    assert isinstance(evidence.observed.scheme, Shuffle)
    assert evidence.observed_interval.lower > evidence.claimed.upper
    assert evidence.claimed.adjacency == evidence.observed_interval.adjacency == "zero_out"


def test_the_way_out_is_named_with_numbers(shuffled: AuditReport) -> None:
    change, bins, noise = shuffled.advice
    assert "make_private" in change
    assert "20 steps" in bins
    assert noise.startswith("If you keep shuffling, you need noise multiplier ")


def test_the_report_survives_json(shuffled: AuditReport) -> None:
    assert AuditReport.from_json(shuffled.to_json()) == shuffled


def test_a_claim_in_add_remove_is_compared_in_zero_out_and_says_so() -> None:
    claim = PrivacyClaim(
        delta=1e-5, noise_multiplier=1.0, epochs=10, scheme=Poisson(0.05), adjacency="add_or_remove_one"
    )
    report = audit(shuffled_trace(), claim)
    assert report.evidence.claimed.adjacency == "zero_out"
    assert any("most favourable" in note for note in report.notes)


def test_epochs_of_the_observed_scheme_are_counted_as_it_runs() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(20):
        order = rng.permutation(N)
        rows += [order[start : start + 64] for start in range(0, N, 64)]
    trace = SamplingTrace.from_batches(rows, num_records=N)
    report = audit(trace, PrivacyClaim(delta=1e-5, noise_multiplier=1.0, epochs=3, scheme=Poisson(0.064)))
    observed = report.evidence.observed_interval
    assert observed.scheme == Shuffle(64)
    # three epochs of no amplification: the Gaussian mechanism at sqrt(3)
    from dpaudit.accounting import epsilon
    from dpaudit.scheme import Sequential

    once = epsilon(
        Sequential(64), noise_multiplier=1.0, steps=3 * 16, num_records=N, delta=1e-5, adjacency="zero_out"
    )
    assert observed.upper == pytest.approx(once.upper)


def test_without_noise_or_steps_the_sampling_alone_decides() -> None:
    report = audit(shuffled_trace(), PrivacyClaim(epsilon=2.0, scheme=Poisson(0.05)))
    assert report.assumed
    assert report.verdict.outcome is Outcome.UNSUPPORTED
    assert report.evidence.claimed is not None
    by_name = {field.name: field for field in report.fields}
    assert by_name["noise_multiplier"].status is Status.ASSUMED
    assert by_name["steps"].value == str(STEPS)


def test_a_claim_of_shuffling_without_amplification_stands() -> None:
    claim = PrivacyClaim(delta=1e-5, noise_multiplier=4.0, epochs=10, scheme=Shuffle(BATCH))
    assert audit(shuffled_trace(), claim).verdict.outcome is Outcome.CONSISTENT
    too_bold = PrivacyClaim(epsilon=0.1, delta=1e-5, noise_multiplier=4.0, epochs=10, scheme=Shuffle(BATCH))
    assert audit(shuffled_trace(), too_bold).verdict.outcome is not Outcome.CONSISTENT


def test_a_wrong_rate_is_refuted_or_covered() -> None:
    trace = poisson_trace(rate=0.1)
    report = audit(trace, CLAIM)
    assert report.verdict.outcome is Outcome.REFUTED
    generous = PrivacyClaim(epsilon=50.0, delta=1e-5, noise_multiplier=1.0, epochs=10, scheme=Poisson(0.05))
    assert audit(trace, generous).verdict.outcome is Outcome.CONSISTENT


def test_few_steps_are_inconclusive_and_say_how_many_are_needed() -> None:
    trace = poisson_trace().runs()[0]._slice(0, 2)
    report = audit(trace, CLAIM)
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert "steps are needed" in report.verdict.reasons[0].sentence


def test_the_rate_is_read_off_the_loader_or_the_trace() -> None:
    report = audit(poisson_trace(), PrivacyClaim(), assumed_rate=0.05)
    assert report.evidence.observed.rate.claimed == 0.05
    assert any("read off the loader" in note for note in report.notes)
    report = audit(poisson_trace(), PrivacyClaim())
    assert any("a wrong rate cannot be seen" in note for note in report.notes)


@pytest.mark.parametrize(
    ("scheme", "rate"),
    [
        (Poisson(0.1), 0.1),
        (Shuffle(50), 0.05),
        (BallsInBins(20), 0.05),
        (CyclicPoisson(0.2, 4), 0.05),
        (WeightedPoisson((0.0, 0.1)), 0.05),
        (BMinSepPoisson(0.5, 3), 0.25),
        (Unrecognised("?"), None),
    ],
)
def test_average_rate_of_a_scheme(scheme, rate) -> None:
    assert sampling_rate(scheme, N) == (None if rate is None else pytest.approx(rate))


def test_the_summary_counts_every_step_and_record() -> None:
    trace = poisson_trace()
    summary = summarise(trace)
    assert sum(count for _, count in summary.batch_sizes) == trace.steps
    assert sum(count for _, count in summary.inclusions) == N
    assert len(summary.batch_sizes) <= 61
