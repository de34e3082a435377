"""Series of epsilon for figures."""

from __future__ import annotations

import numpy as np
import pytest

from dpaudit.accounting import epsilon
from dpaudit.audit.curves import claimed_point, draw_series, observed_point
from dpaudit.audit.sampling import Subject, audit_sampling
from dpaudit.audit.setting import Setting
from dpaudit.audit.summary import summarise
from dpaudit.audit_report import AuditReport
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.provenance import collect
from dpaudit.scheme import Poisson, Shuffle
from dpaudit.trace import SamplingTrace

PROVENANCE = collect(command=())


@pytest.fixture(scope="module")
def trace() -> SamplingTrace:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(400) for _ in range(20)]
    return SamplingTrace.from_batches(
        [o[i : i + 40] for o in orders for i in range(0, 400, 40)], num_records=400
    )


@pytest.fixture(scope="module")
def audited(trace) -> AuditReport:
    claim = PrivacyClaim(
        epsilon=4.0, delta=1e-5, scheme=Poisson(0.1), noise_multiplier=1.0, epochs=5, num_records=400
    )
    return audit_sampling(trace, claim, subject=Subject(title="", target="x"), provenance=PROVENANCE)


def test_both_schemes_are_drawn_over_delta_and_steps(audited) -> None:
    assert [(one.role, one.axis) for one in audited.curves] == [
        ("claimed", "delta"),
        ("observed", "delta"),
        ("claimed", "steps"),
        ("observed", "steps"),
    ]


def test_each_point_is_the_epsilon_of_the_accountant(audited) -> None:
    common = {"noise_multiplier": 1.0, "num_records": 400, "adjacency": "zero_out"}
    over_delta, _, over_steps, shuffled = audited.curves
    for series, scheme in ((over_delta, Poisson(0.1)), (over_steps, Poisson(0.1)), (shuffled, Shuffle(40))):
        assert list(series.at) == sorted(series.at)
        for at, lower, upper in zip(series.at, series.lower, series.upper, strict=True):
            setting = (
                {"delta": at, "steps": 50} if series.axis == "delta" else {"delta": 1e-5, "steps": int(at)}
            )
            own = epsilon(scheme, **common, **setting)
            assert (lower, upper) == (own.lower, own.upper)


def test_the_reported_epsilons_lie_on_the_curves(audited) -> None:
    for series in audited.curves:
        own = audited.evidence.claimed if series.role == "claimed" else audited.evidence.observed_interval
        at = series.at.index(1e-5 if series.axis == "delta" else 50.0)
        assert (series.lower[at], series.upper[at]) == (own.lower, own.upper)


def test_no_time_no_curve(trace) -> None:
    setting = Setting(
        noise_multiplier=1.0,
        delta=1e-5,
        adjacency="zero_out",
        num_records=400,
        steps=50,
        epochs=None,
        assumed=(),
    )
    point = claimed_point(Poisson(0.1))
    evidence = Evidence(claimed=point(setting))
    observed = observed_point((Shuffle(40),), trace, 1e-3)
    assert draw_series(evidence, setting, point, observed, budget=0.0) == ()
    assert len(draw_series(evidence, setting, point, None)) == 2


def test_computed_fields_are_in_the_report(audited) -> None:
    fields = {field.name: field for field in audited.fields}
    upper = epsilon(
        Poisson(0.1), noise_multiplier=1.0, steps=50, num_records=400, delta=1e-6, adjacency="zero_out"
    ).upper
    assert f"{upper:.2f}"[:-1] in fields["other_deltas"].value
    assert fields["gaussian"].value.startswith("mu = ")


def test_a_summary_holds_no_single_record() -> None:
    """Few records give no table of places: its cells would speak of one record each."""
    few = SamplingTrace.from_batches([np.arange(4)] * 8 + [np.arange(4, 8)] * 8, num_records=8)
    assert summarise(few, 4).places == ()
    assert summarise(few, 100).places == ()
    assert summarise(few).overlaps == ()


def test_a_summary_shows_how_soon_records_return(trace) -> None:
    summary = summarise(trace, 10)
    assert [lag for lag, _, _ in summary.overlaps] == list(range(1, 21))
    assert len(summary.places) == 8
    assert np.mean(summary.places) == pytest.approx(1, rel=0.05)
