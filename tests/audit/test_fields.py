"""Every field that a reader of a privacy claim needs is listed, whatever was audited."""

from __future__ import annotations

import math

from dpaudit.accounting import epsilon, gaussian_equivalent
from dpaudit.audit.fields import check_fields, stated_fields
from dpaudit.audit.setting import settle
from dpaudit.audit_report import Status
from dpaudit.claim import PrivacyClaim
from dpaudit.evidence import Evidence
from dpaudit.interval import format_upper
from dpaudit.scheme import Poisson

NEEDED = {
    "epsilon", "delta", "gaussian", "sampling", "num_records", "adjacency", "noise_multiplier", "steps",
    "unit", "clip_norm", "clipping", "accountant", "released", "data_accesses", "secret_sample",
    "noise_generator", "floating_point", "trust_model", "library",
}  # fmt: skip
CLAIM = PrivacyClaim(
    epsilon=3.0, delta=1e-5, scheme=Poisson(0.1), noise_multiplier=1.5, steps=50, num_records=500,
    adjacency="zero_out", unit="record", secret_sample=False,
)  # fmt: skip
CLAIMED = epsilon(
    Poisson(0.1), noise_multiplier=1.5, steps=50, num_records=500, delta=1e-5, adjacency="zero_out"
)


def test_a_watched_sampling_lists_all_of_them() -> None:
    setting, _ = settle(CLAIM, Poisson(0.1), (Poisson(0.1),), num_records=500, steps=50)
    found = {
        one.name: one for one in check_fields(CLAIM, Poisson(0.1), Evidence(claimed=CLAIMED), setting, 500)
    }
    assert found.keys() == NEEDED | {"other_deltas"}
    assert found["secret_sample"].value == "no"
    assert found["unit"].status is Status.DECLARED
    assert found["trust_model"].status is Status.MISSING
    # Nobody watched: the sampling is stated, no more.
    assert found["sampling"].status is Status.DECLARED


def test_a_claim_alone_lists_all_of_them() -> None:
    found = {one.name: one for one in stated_fields(CLAIM, CLAIMED)}
    assert found.keys() == NEEDED
    assert found["epsilon"].status is Status.CHECKED
    assert found["noise_multiplier"].status is Status.DECLARED
    assert found["library"].status is Status.MISSING


def test_nothing_known_is_all_missing() -> None:
    statuses = {one.status for one in stated_fields(PrivacyClaim(), None)}
    assert statuses == {Status.MISSING}


def test_the_gaussian_equivalent_has_the_same_epsilon() -> None:
    (field,) = [one for one in stated_fields(CLAIM, CLAIMED) if one.name == "gaussian"]
    mu = gaussian_equivalent(CLAIMED)[1]
    assert math.isfinite(mu)
    assert field.value == f"mu = {format_upper(mu)}"
