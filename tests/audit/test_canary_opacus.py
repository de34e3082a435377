"""An unmodified Opacus, audited from its inputs and its released gradients; the shipped canary files."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from dpaudit.audit.canary import audit_canaries
from dpaudit.audit.canary_file import read_canary_file
from dpaudit.audit_report import AuditReport
from dpaudit.verdict import Outcome

pytest.importorskip("opacus")
pytest.importorskip("sklearn")
AUDITS = Path(__file__).parents[2] / "audits"
SHIPPED = sorted(AUDITS.glob("canary_*.toml"))
pytestmark = pytest.mark.filterwarnings("ignore")


def audit(name: str, **changed: object) -> AuditReport:
    file = read_canary_file(AUDITS / f"{name}.toml")
    return audit_canaries(replace(file, settings=replace(file.settings, **changed)), command=[])


def test_shuffling_is_seen_in_one_short_run() -> None:
    report = audit("canary_opacus_shuffled", canaries=100, per_tensor=16, steps=30)
    assert report.verdict.outcome is Outcome.REFUTED
    assert report.evidence.observed.scheme.name == "shuffle"
    assert "DPA309" in {test.rule for test in report.evidence.canary.rejections}


def test_half_of_the_noise_is_seen_in_one_short_run() -> None:
    report = audit("canary_opacus_half_noise", canaries=100, per_tensor=16, steps=20)
    assert report.evidence.canary.contradicts_claim
    for row in report.evidence.canary.mechanism:
        assert row.noise_high < 0.7


def test_opacus_itself_keeps_its_claim_and_every_canary_arrives() -> None:
    report = audit("canary_opacus", canaries=300, per_tensor=32)
    assert report.verdict.outcome is Outcome.CONSISTENT
    for row in report.evidence.canary.mechanism:
        assert row.noise_low < 1.03
        assert row.noise_high > 0.97
        assert row.sensitivity_low < 1.1
        assert row.sensitivity_high > 0.9


def test_canaries_are_read_back_from_opacus_exactly() -> None:
    from dpaudit.audit.canary_plan import plan_of
    from dpaudit.audit.canary_runs import make_run

    for read in ("gradient", "parameters"):
        file = read_canary_file(AUDITS / "canary_opacus.toml")
        quiet = replace(file.settings, noise_multiplier=0.0, steps=6, canaries=60, read=read)
        run = make_run(plan_of(replace(file, settings=quiet), file.claim), 0)
        assert run.participated.any()
        assert abs(run.value - run.participated).max() < (1e-4 if read == "gradient" else 5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_canary_file_reaches_its_verdict(path: Path) -> None:
    expected = tomllib.loads(path.read_text())["expected"]
    assert audit(path.stem).verdict.outcome.value == expected
