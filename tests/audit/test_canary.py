"""Canary audits from runs to a verdict: every fault caught, no true claim accused, no finished run lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpaudit.audit import canary_black_box, canary_runs
from dpaudit.audit.canary import audit_canaries
from dpaudit.audit.canary_attempts import settled
from dpaudit.audit.canary_bounds import Subject, attack_bounds
from dpaudit.audit.canary_file import CanaryFile, demo, read_canary_file
from dpaudit.audit.canary_plan import plan_of
from dpaudit.audit.canary_power import alternatives
from dpaudit.audit.canary_scores import ScoresSource, audit_scores
from dpaudit.audit.canary_settings import FAULTS, INPUT_DESIGNS
from dpaudit.audit.canary_tests import Releases, costs_privacy, mechanism_tests, releases_of
from dpaudit.audit.kinds import KINDS, plan_audit
from dpaudit.audit.rules import RULES
from dpaudit.audit_report import AuditReport
from dpaudit.canary import AuditPlan, StepObservations, begin_attempt, claim_gate
from dpaudit.claim import PrivacyClaim
from dpaudit.dpsgd import canaries
from dpaudit.dpsgd.canaries.faults import FaultyNoise
from dpaudit.errors import ClaimError, DpauditError, TargetError
from dpaudit.scheme import Poisson
from dpaudit.scores import CanaryScores
from dpaudit.verdict import Outcome

pytest.importorskip("sklearn")
SMALL = {
    "runs": 1,
    "canaries": 150,
    "per_tensor": 32,
    "inputs": 2,
    "steps": 20,
    "black_box": 0,
    "jobs": 1,
    "seed": 5,
}
CLAIM = demo().claim


def small(**changed: object) -> CanaryFile:
    file = demo()
    return replace(file, settings=replace(file.settings, **{**SMALL, **changed}))


def audit(**changed: object) -> AuditReport:
    return audit_canaries(small(**changed), command=["dpaudit", "canary-run"])


def rejected(report: AuditReport) -> set[str]:
    return {test.rule for test in report.evidence.canary.rejections}


@pytest.fixture(scope="module")
def honest() -> AuditReport:
    return audit(runs=2, black_box=60)


def test_a_true_claim_is_consistent_and_its_report_is_full(honest: AuditReport) -> None:
    assert honest.verdict.outcome is Outcome.CONSISTENT
    found = honest.evidence.canary
    assert not found.contradicts_claim
    assert {row.tensor for row in found.mechanism} == {
        "register.weight", "0.weight", "0.bias", "2.weight", "2.bias",
    }  # fmt: skip
    for row in found.mechanism:
        assert row.noise_low < row.noise_ratio < row.noise_high
        assert row.noise_low < 1.1
        assert row.noise_high > 0.9
        assert row.sensitivity == pytest.approx(1.0, abs=0.8)
    assert {test.rule for test in found.tests} <= set(RULES)
    assert {test.rule for test in found.tests} >= {f"DPA3{n:02}" for n in (2, 3, 4, 5, 7, 8, 9, 10, 11)}
    assert {bound.interval.method for bound in found.bounds if bound.decides} == {
        "per_step", "per_step_weakest_tensor", "one_run_f_dp", "area_under_curve",
    }  # fmt: skip
    assert {bound.threat_model for bound in found.bounds} == {"white_box", "black_box"}
    assert all(
        bound.validity == "iid" for bound in found.bounds if bound.interval.method == "area_under_curve"
    )
    for summary in found.scores:
        assert sum(summary.included) + sum(summary.excluded) > 0
        assert summary.claimed_curve[-1] == pytest.approx((1.0, 1.0), abs=1e-6)
    assert found.plan.startswith("sha256:")
    assert dict(found.setting)["Seed"] == "5"
    assert AuditReport.from_json(json.loads(json.dumps(honest.to_json(), allow_nan=False))) == honest
    by_name = {field.name: field for field in honest.fields}
    assert "measured" in by_name["noise_multiplier"].remark


def test_an_epsilon_that_is_too_small_is_refuted_by_the_bound_alone() -> None:
    file = small(canaries=600, steps=100)
    report = audit_canaries(replace(file, claim=replace(CLAIM, epsilon=2.0)), command=[])
    assert report.verdict.outcome is Outcome.REFUTED
    assert not report.evidence.canary.rejections


@pytest.mark.parametrize(
    ("fault", "rules", "outcomes"),
    [
        ("half_noise", {"DPA302"}, {Outcome.REFUTED, Outcome.UNSUPPORTED}),
        ("noise_over_batch", {"DPA302"}, {Outcome.REFUTED}),
        ("layer_without_noise", {"DPA302"}, {Outcome.REFUTED}),
        ("same_noise", {"DPA304"}, {Outcome.UNSUPPORTED}),
        ("no_clipping", {"DPA307", "DPA311"}, {Outcome.REFUTED}),
        ("double_clip", {"DPA307", "DPA311"}, {Outcome.REFUTED, Outcome.UNSUPPORTED}),
    ],
)
def test_each_fault_is_caught_in_one_short_run(fault: str, rules: set[str], outcomes: set[Outcome]) -> None:
    report = audit(fault=fault)
    assert report.verdict.outcome in outcomes
    assert rules <= rejected(report)
    assert report.evidence.canary.contradicts_claim
    assert report.advice


def test_too_much_noise_is_seen_and_accuses_nobody() -> None:
    report = audit(fault="noise_times_batch")
    assert "DPA302" in rejected(report)
    assert not report.evidence.canary.contradicts_claim
    assert report.verdict.outcome is Outcome.CONSISTENT
    assert "more privacy" in report.verdict.reasons[0].sentence


@pytest.mark.parametrize("sampler", ["shuffle", "fixed_size"])
def test_another_sampler_under_a_poisson_claim_is_refuted(sampler: str) -> None:
    report = audit(sampler=sampler)
    assert report.verdict.outcome is Outcome.REFUTED
    assert report.evidence.observed.contradicts_claim
    assert (sampler != "shuffle") or "DPA309" in rejected(report)


@pytest.mark.parametrize("tensor", ["register.weight", "model.0.layer.weight", "model.0.layer.bias",
                                    "model.2.layer.weight", "model.2.layer.bias"])  # fmt: skip
def test_noise_missing_on_any_one_tensor_is_caught(tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(self, tensors, scale, factor=1.0):
        self.silent = frozenset([tensor])
        assert tensor in tensors
        return add(self, tensors, scale, factor)

    add = FaultyNoise.add
    monkeypatch.setattr(FaultyNoise, "add", silent)
    report = audit(steps=4)
    assert report.evidence.canary.contradicts_claim
    assert report.verdict.outcome in (Outcome.REFUTED, Outcome.UNSUPPORTED)


@pytest.mark.parametrize("model", ["cnn"])
def test_another_model(model: str) -> None:
    assert audit(model=model, steps=6, canaries=60, per_tensor=16).evidence.canary.contradicts_claim is False
    assert audit(
        model=model, steps=6, canaries=60, per_tensor=16, fault="layer_without_noise"
    ).verdict.outcome in (
        Outcome.REFUTED,
        Outcome.UNSUPPORTED,
    )


def test_a_short_run_is_inconclusive_and_says_what_is_needed() -> None:
    report = audit(steps=1, canaries=16, designs=("register",))
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    needed = [one for one in report.evidence.canary.alternatives if one.power < 0.9 and one.steps_needed]
    assert needed
    assert all(one.steps_needed > 1 for one in needed)


def test_tensors_that_nobody_watched_leave_the_audit_inconclusive() -> None:
    report = audit(designs=("register",), canaries=300)
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert "2.bias" in report.verdict.reasons[0].sentence
    assert any("No noise was watched in: 0.weight" in note for note in report.notes)


def test_power_is_what_simulation_finds() -> None:
    rng, noise, steps, canaries_ = np.random.default_rng(0), 1.387, 3, 60
    claim = replace(CLAIM, steps=steps)

    def observed(sigma: float, signal: float) -> StepObservations:
        included = np.arange(canaries_) < canaries_ // 2
        participated = (rng.random((steps, canaries_)) < 0.5) & included
        value = sigma * rng.normal(size=participated.shape) + signal * participated
        return StepObservations(value=value, participated=participated, included=included)

    seen = observed(noise, 1.0)
    tests = mechanism_tests(Releases(observations=seen, residuals=np.zeros(0), clipped_most=math.nan), claim)
    found = {one.name: one.power for one in alternatives(seen, noise, significance=0.05, tests=len(tests))}
    for name, sigma, size, rule in (
        ("noise 10 % too small", 0.9 * noise, 1.0, "DPA302"),
        ("a clip norm twice as large", noise, 2.0, "DPA307"),
    ):
        hits = 0
        for _ in range(300):
            again = mechanism_tests(
                Releases(observations=observed(sigma, size), residuals=np.zeros(0), clipped_most=math.nan),
                claim,
            )
            hits += any(one.p_value <= 0.05 / len(tests) for one in again if one.rule == rule)
        assert hits / 300 == pytest.approx(found[name], abs=0.12)


def test_bounds_that_decide_are_fewer_and_stricter() -> None:
    rng = np.random.default_rng(1)
    included = rng.random(400) < 0.5
    participated = (rng.random((50, 400)) < 0.1) & included
    value = 1.387 * rng.normal(size=(50, 400)) + participated
    observations = StepObservations(
        value=value, participated=participated, included=included, tensor=np.arange(400) % 2
    )
    subject = Subject(claim=replace(CLAIM, steps=50), delta=1e-5, plan=AuditPlan(), error=1e-3)
    bounds, notes = attack_bounds([], subject, observations)
    assert not notes
    deciding = [bound for bound in bounds if bound.decides]
    assert [bound.interval.confidence for bound in deciding] == pytest.approx([1 - 5e-4] * 2)
    reading = [bound for bound in bounds if not bound.decides]
    assert all(
        one.interval.lower > other.interval.lower for one, other in zip(reading, deciding, strict=True)
    )


def test_canaries_that_coins_all_include_show_no_noise() -> None:
    run = canary_runs.make_run(plan_of(small(steps=1, canaries=4, designs=("register",)), CLAIM), 0)
    with pytest.raises(DpauditError, match="every one of the 4 canaries"):
        releases_of([replace(run, included=np.ones(4, np.bool_))])


# Running, keeping, resuming.


def test_an_interrupted_audit_loses_no_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = small(runs=3, steps=5)
    plan = plan_of(file, CLAIM)
    made: list[int] = []
    make = canary_runs.make_run

    def once(plan, run, directory):
        if run == 2 and len(made) == 2:
            raise KeyboardInterrupt
        made.append(run)
        return make(plan, run, directory)

    monkeypatch.setattr(canary_runs, "make_run", once)
    with pytest.raises(KeyboardInterrupt):
        canary_runs.run_all(plan, 3, jobs=1, directory=tmp_path)
    assert len(list(tmp_path.glob("run-*.npz"))) == 2
    made.append(-1)
    told: list[tuple[int, int]] = []
    runs = canary_runs.run_all(
        plan, 3, jobs=1, directory=tmp_path, progress=lambda done, all_: told.append((done, all_))
    )
    assert made == [0, 1, -1, 2]
    assert told == [(2, 3), (3, 3)]
    monkeypatch.undo()
    fresh = canary_runs.run_all(plan, 3, jobs=1)
    assert all(np.array_equal(one.value, other.value) for one, other in zip(runs, fresh, strict=True))
    canary_runs.forget(plan, 3, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_audit_goes_on_with_the_seed_it_had_drawn(tmp_path: Path) -> None:
    file = small(seed=None)
    first = canary_runs.pledge(plan_of(file, CLAIM), tmp_path, drawn=True)
    (pledged,) = tmp_path.glob("plan-*.json")
    assert json.loads(pledged.read_text())["plan"] == first.fingerprint(0)
    assert canary_runs.pledge(plan_of(file, CLAIM), tmp_path, drawn=True) == first
    fixed = plan_of(small(seed=4), CLAIM)
    assert canary_runs.pledge(fixed, tmp_path, drawn=False).seed == 4
    canary_runs.forget(fixed, 1, tmp_path)
    assert not list(tmp_path.iterdir())
    report = audit_canaries(small(seed=None, steps=3), command=[], directory=tmp_path / "kept")
    assert int(dict(report.evidence.canary.setting)["Seed"]) == report.provenance.seed
    assert not list((tmp_path / "kept").iterdir())


def test_small_models_are_kept_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary_black_box, "_CHUNK", 20)
    plan = plan_of(small(steps=5), CLAIM)
    whole = canary_black_box.final_loss_scores(plan, 60)
    told: list[int] = []

    def stop(done: int, wanted: int) -> None:
        told.append(done)
        if done == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        canary_black_box.final_loss_scores(plan, 60, directory=tmp_path, progress=stop)
    assert len(list(tmp_path.glob("models-*.npy"))) == 2
    again = canary_black_box.final_loss_scores(plan, 60, directory=tmp_path)
    assert np.array_equal(again.score, whole.score)
    assert again.runs == again.canaries == 60


def test_a_torn_file_is_made_again(tmp_path: Path) -> None:
    plan = plan_of(small(steps=2), CLAIM)
    canary_runs.run_all(plan, 1, jobs=1, directory=tmp_path)
    (kept,) = tmp_path.glob("run-*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    (run,) = canary_runs.run_all(plan, 1, jobs=1, directory=tmp_path)
    assert run.steps == 2


@pytest.mark.slow
def test_a_killed_audit_goes_on(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from dataclasses import replace\n"
        "from dpaudit.audit.canary_file import demo; from dpaudit.audit.canary import audit_canaries\n"
        "f = demo()\n"
        "s = replace(f.settings, runs=6, steps=60, canaries=300, black_box=0, jobs=1, seed=9)\n"
        "f = replace(f, settings=s)\n"
        f"print(audit_canaries(f, command=[], directory=Path({str(tmp_path)!r})).verdict.outcome.value)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=os.getcwd())
    deadline = time.time() + 120
    while len(list(tmp_path.glob("run-*.npz"))) < 2 and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run-*.npz")}
    assert 2 <= len(kept) < 6
    plan = plan_of(small(runs=6, steps=60, canaries=300, per_tensor=64, inputs=20, seed=9), CLAIM)
    runs = canary_runs.run_all(plan, 6, jobs=2, directory=tmp_path)
    assert len(runs) == 6
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


@pytest.mark.slow
def test_runs_in_processes_are_the_same_runs() -> None:
    plan = plan_of(small(steps=2, canaries=20, per_tensor=4), CLAIM)
    here = canary_runs.run_all(plan, 2, jobs=1)
    there = canary_runs.run_all(plan, 2, jobs=2)
    assert all(np.array_equal(one.value, other.value) for one, other in zip(here, there, strict=True))


# Files.


def test_names_that_are_written_twice_agree() -> None:
    assert FAULTS == canaries.FAULTS
    assert INPUT_DESIGNS == canaries.INPUT_KINDS


def write(path: Path, canary: str = "", claim: str = "") -> Path:
    path.write_text(
        'kind = "canary"\n[claim]\nepsilon = 4.0\nnoise_multiplier = 1.387\nsteps = 100\n'
        f'scheme = {{ name = "poisson", rate = 0.1 }}\n{claim}\n[canary]\n{canary}\n'
    )
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cannaries = 10", "cannaries"),
        ("runs = 0", "runs"),
        ("runs = true", "runs"),
        ('sampler = "poison"', "poison"),
        ('designs = ["blank"]', "register"),
        ('designs = ["register", "blanc"]', "blanc"),
        ('fault = "half_nose"', "half_nose"),
        ('optimizer = "adam"', "adam"),
        ("significance = 0.9", "significance"),
        ("learning_rate = -1", "learning_rate"),
        ("noise_multiplier = -0.5", "noise_multiplier"),
    ],
)
def test_a_slip_in_a_file_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ClaimError, match=message) as caught:
        read_canary_file(write(tmp_path / "a.toml", line))
    assert "a.toml" in caught.value.message


def test_paths_are_from_the_file_and_check_knows_the_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.toml", 'train = "own.py:train"\nmodel = "cnn"')
    file = read_canary_file(path)
    assert file.settings.train == f"{tmp_path / 'own.py'}:train"
    assert file.settings.model == "cnn"
    assert "canary" in KINDS
    assert plan_audit(path).expected is None
    with pytest.raises(TargetError, match="cannot find"):
        canary_runs.load_function(file.settings.train)
    (tmp_path / "own.py").write_text("def trian(canaries): pass\n")
    with pytest.raises(TargetError, match="no function 'train'"):
        canary_runs.load_function(file.settings.train)


def test_a_claim_that_names_no_mechanism_is_refused() -> None:
    for claim in (
        replace(CLAIM, noise_multiplier=None),
        replace(CLAIM, scheme=None),
        replace(CLAIM, adjacency="replace_one"),
    ):
        with pytest.raises(ClaimError):
            audit_canaries(replace(small(), claim=claim), command=[])
    with pytest.raises(ClaimError, match="steps"):
        audit_canaries(replace(small(steps=None), claim=replace(CLAIM, steps=None)), command=[])


def test_a_seed_is_drawn_and_reported_where_none_is_set() -> None:
    plans = [plan_of(small(seed=None), CLAIM).seed for _ in range(2)]
    assert plans[0] != plans[1]


def test_own_model_and_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    np.savez(tmp_path / "d.npz", features=rng.normal(size=(300, 5)) + labels[:, None], labels=labels)
    (tmp_path / "m.py").write_text(
        "from torch import nn\ndef build():\n"
        "    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3))\n"
    )
    line = (
        'model = "m.py:build"\ndata = "d.npz"\nruns = 1\nsteps = 100\ncanaries = 60\nblack_box = 0\nseed = 1'
    )
    report = audit_canaries(read_canary_file(write(tmp_path / "a.toml", line)), command=[])
    assert report.verdict.outcome is Outcome.CONSISTENT
    assert {row.tensor for row in report.evidence.canary.mechanism} >= {"1.weight", "1.bias", "3.weight"}
    assert any("No canary reaches 1.weight" in note for note in report.notes)


def test_a_model_that_raises_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def build():\n    raise RuntimeError('no weights here')\n")
    file = read_canary_file(write(tmp_path / "a.toml", 'model = "m.py:build"\nruns = 1\nsteps = 1'))
    with pytest.raises(DpauditError, match="no weights here"):
        audit_canaries(file, command=[])


# Direction, attempts, scores from outside.


def test_noise_that_is_too_large_hides_no_other_fault() -> None:
    rng = np.random.default_rng(2)
    included = np.arange(200) < 100
    participated = (rng.random((30, 200)) < 0.1) & included
    tensor = np.arange(200) % 2
    claim = replace(CLAIM, steps=30)

    def costs(sigma, signal: float) -> bool:
        value = sigma * rng.normal(size=(30, 200)) + signal * participated
        releases = Releases(
            observations=StepObservations(
                value=value, participated=participated, included=included, tensor=tensor
            ),
            residuals=np.zeros(0),
            clipped_most=math.nan,
        )
        tests = claim_gate(mechanism_tests(releases, claim), significance=1e-3).tests
        return costs_privacy(tests, releases, claim, significance=1e-3)

    assert not costs(1.387, 1.0)
    assert not costs(4 * 1.387, 1.0)
    assert not costs(4 * 1.387, 4.0)  # four times of both: as private as claimed
    assert costs(4 * 1.387, 12.0)
    assert costs(np.where(tensor == 0, 4 * 1.387, 0.5 * 1.387), 1.0)


def test_an_earlier_refutation_stands(tmp_path: Path, honest: AuditReport) -> None:
    path = tmp_path / "budget.json"
    refuted = replace(honest, verdict=replace(honest.verdict, outcome=Outcome.REFUTED))
    first = settled(honest, path, begin_attempt(path, 1e-3))
    assert first.verdict.outcome is Outcome.CONSISTENT
    assert "Attempt 1" in first.notes[-1]
    assert settled(refuted, path, begin_attempt(path, 1e-3)).verdict.outcome is Outcome.REFUTED
    third = settled(honest, path, begin_attempt(path, 1e-3))
    assert third.verdict.outcome is Outcome.UNSUPPORTED
    assert "budget.json" in third.verdict.reasons[0].sentence


def scores_of(shift: float, *, canaries: int = 600, runs: int = 1) -> CanaryScores:
    rng = np.random.default_rng(7)
    included = rng.random(canaries) < 0.5
    return CanaryScores(
        included=included,
        score=rng.normal(size=canaries) + shift * included,
        run=np.arange(canaries) % runs,
    )


SOURCE = ScoresSource(title="scores", inputs=(), command=("dpaudit",))


def test_scores_from_outside_are_held_against_the_claim() -> None:
    claim = PrivacyClaim(epsilon=1.0, delta=1e-5)
    one_run = audit_scores(scores_of(4.0), claim, source=SOURCE)
    assert one_run.verdict.outcome is Outcome.REFUTED
    by_method = {bound.interval.method: bound for bound in one_run.evidence.canary.bounds}
    assert {"one_run", "one_run_f_dp", "fair_coin_ratio", "area_under_curve"} <= set(by_method)
    assert not any("run_level" in name for name in by_method)
    for bound in one_run.evidence.canary.bounds:
        assert bound.decides is False or bound.validity == "any_dependence"
        if bound.validity == "iid":
            assert any("iid" in note for note in bound.interval.notes)
    assert any("for reading only" in note for note in one_run.notes)
    assert audit_scores(scores_of(0.0), claim, source=SOURCE).verdict.outcome in (
        Outcome.CONSISTENT,
        Outcome.INCONCLUSIVE,
    )


def test_scores_of_a_run_each_decide_by_independence() -> None:
    claim = PrivacyClaim(
        epsilon=4.4, delta=1e-5, scheme=Poisson(1.0), noise_multiplier=1.0, steps=1, num_records=100
    )
    alone = audit_scores(scores_of(1.0, runs=600), claim, source=SOURCE)
    assert any(bound.decides and bound.validity == "iid" for bound in alone.evidence.canary.bounds)
    assert [test.rule for test in alone.evidence.canary.tests] == ["DPA310"]
    assert alone.verdict.outcome in (Outcome.CONSISTENT, Outcome.INCONCLUSIVE)
    assert alone.evidence.claimed.upper == pytest.approx(4.377, abs=0.01)
    assert audit_scores(scores_of(3.0, runs=600), claim, source=SOURCE).verdict.outcome is Outcome.REFUTED


def test_few_scores_are_inconclusive() -> None:
    report = audit_scores(scores_of(0.5, canaries=12), PrivacyClaim(epsilon=4.0, delta=1e-5), source=SOURCE)
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert "twice the claimed epsilon" in report.verdict.reasons[0].sentence
    with pytest.raises(ClaimError, match="no epsilon"):
        audit_scores(scores_of(0.5), PrivacyClaim(delta=1e-5), source=SOURCE)


def test_a_tensor_that_shows_no_noise_leaves_the_audit_inconclusive_and_is_named() -> None:
    """Full batches hide the noise at every included canary; where all are, nothing is seen of it."""
    claim = replace(CLAIM, scheme=Poisson(1.0), noise_multiplier=40.0)
    file = replace(small(per_tensor=1, steps=5), claim=claim)
    report = audit_canaries(file, command=["dpaudit"])
    assert report.evidence.canary is not None
    hidden = [one for one in report.evidence.canary.alternatives if "nothing was watched" in one.name]
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    shown = {row.tensor for row in report.evidence.canary.mechanism}
    assert shown
    assert [one.power for one in hidden] == [0.0]
    assert not any(name in hidden[0].name.replace(",", "").split() for name in shown)


@pytest.mark.parametrize("epsilon", [40.0, math.inf])
def test_a_claim_that_no_mechanism_could_break_is_not_called_consistent(epsilon: float) -> None:
    """Twice the claim is more than any mechanism that is searched over leaks, so nothing would show it."""
    report = audit_scores(scores_of(0.0), PrivacyClaim(epsilon=epsilon, delta=1e-5), source=SOURCE)
    assert report.verdict.outcome is Outcome.INCONCLUSIVE
    assert report.evidence.canary is not None
    assert [one.power for one in report.evidence.canary.alternatives] == [0.0]


# Calibration.


@pytest.mark.slow
def test_true_claims_are_seldom_accused() -> None:
    """At a level of 5 % over many small runs, accusations stay within the binomial band."""
    accused, repetitions, level = 0, 60, 0.05
    for seed in range(repetitions):
        report = audit(seed=1000 + seed, significance=level, steps=12, canaries=60, per_tensor=16)
        accused += report.verdict.outcome in (Outcome.REFUTED, Outcome.UNSUPPORTED)
    assert accused <= repetitions * level + 3 * math.sqrt(repetitions * level * (1 - level))


@pytest.mark.slow
def test_p_values_of_true_claims_are_uniform_or_larger() -> None:
    plan = plan_of(small(steps=15, canaries=60, per_tensor=16), CLAIM)
    claim = replace(CLAIM, steps=15)
    small_ones: dict[str, int] = {}
    repetitions = 100
    for run in range(repetitions):
        releases = releases_of([canary_runs.make_run(plan, run)])
        for test in mechanism_tests(releases, claim):
            small_ones[test.name] = small_ones.get(test.name, 0) + (test.p_value <= 0.05)
    assert len(small_ones) >= 9
    for name, count in small_ones.items():
        assert count <= repetitions * 0.05 + 4 * math.sqrt(repetitions * 0.05 * 0.95), name
