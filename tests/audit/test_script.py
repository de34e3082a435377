"""From a program's run to its report: the claim that is read off, claimed beside seen, and the verdict."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpaudit.audit.script import audit_script
from dpaudit.audit_report import AuditReport, Status
from dpaudit.claim import PrivacyClaim
from dpaudit.instrument.script import Program, ScriptRun, record_script
from dpaudit.instrument.seeding import restored
from dpaudit.provenance import collect
from dpaudit.scheme import Poisson

pytest.importorskip("opacus")
SETUP = """
import torch
from opacus import PrivacyEngine
from opacus.accountants.utils import get_noise_multiplier
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
data = TensorDataset(torch.randn(200, 3), torch.randint(0, 2, (200,)))
plain = DataLoader(data, batch_size=20, shuffle=True)
model = torch.nn.Linear(3, 2)
base = torch.optim.SGD(model.parameters(), lr=0.1)
engine = PrivacyEngine(accountant="rdp")

def private(**options):
    return engine.make_private(**{
        "module": model, "optimizer": base, "data_loader": plain, "noise_multiplier": 1.5,
        "max_grad_norm": 0.7, **options})

def train(model, optimizer, loader, epochs):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    with restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., ScriptRun]:
    def ran(text: str, steps: int | None = None) -> ScriptRun:
        (tmp_path / "train.py").write_text(SETUP + text)
        return record_script(Program(str(tmp_path / "train.py")), steps=steps)

    return ran


def audited(run: ScriptRun, **given: object) -> AuditReport:
    return audit_script(run, PrivacyClaim(**given), provenance=collect(command=[]))  # type: ignore[arg-type]


def test_every_number_of_opacus_is_read_off_and_stands_beside_what_was_seen(run) -> None:
    done = run("train(*private(), epochs=6)\nepsilon = engine.get_epsilon(delta=1e-6)\nprint(epsilon)\n")
    claim = done.claim
    assert claim.library.startswith("opacus")
    assert claim.accountant.endswith("rdp")
    assert [(part.sampling_rate, part.noise_multiplier, part.steps) for part in claim.accounted] == [
        (0.1, 1.5, 60)
    ]
    assert [(one.delta, one.optimizer_steps) for one in claim.stated] == [(1e-6, 60)]
    assert [(one.clip_norm, one.num_records, one.expected_batch_size) for one in claim.engines] == [
        (0.7, 200, 20)
    ]
    assert [(one.noise_multiplier, one.steps) for one in claim.noise] == [(1.5, 60)]
    report = audited(done)
    assert report.claim.epsilon == claim.stated[0].epsilon
    assert report.claim.scheme == Poisson(0.1)
    assert (report.claim.delta, report.claim.steps, report.claim.clip_norm) == (1e-6, 60, 0.7)
    fields = {field.name: field for field in report.fields}
    for name in ("sampling", "num_records", "noise_multiplier", "steps", "accounted_steps", "batch_size"):
        assert "seen" in fields[name].remark, name
        assert fields[name].status is Status.CHECKED, name
    assert fields["accounted_steps"].value == "60"
    assert "rdp gave" in fields["epsilon"].remark
    assert AuditReport.from_json(report.to_json()).fields == report.fields


def test_a_target_epsilon_is_the_claim_where_none_was_asked_for(run) -> None:
    text = """
model, optimizer, loader = engine.make_private_with_epsilon(
    module=model, optimizer=base, data_loader=plain, target_epsilon=5.0, target_delta=1e-5, epochs=9,
    max_grad_norm=1.0)
train(model, optimizer, loader, 2)
"""
    report = audited(run(text))
    assert (report.claim.epsilon, report.claim.delta, report.claim.steps) == (5.0, 1e-5, 20)
    assert len(run(text).claim.engines) == 1
    stopped = audited(run(text, steps=12))  # the rest is taken to go on likewise, to what was planned
    assert (stopped.claim.epsilon, stopped.claim.steps) == (5.0, 90)
    assert stopped.evidence.observed is not None
    assert stopped.evidence.observed.steps == 12


def test_a_search_for_noise_is_a_claim_and_its_many_answers_are_not(run) -> None:
    text = """
noise = get_noise_multiplier(target_epsilon=4.0, target_delta=1e-5, sample_rate=0.1, steps=40)
train(*private(noise_multiplier=noise), epochs=4)
"""
    claim = run(text).claim
    assert [(one.target_epsilon, one.steps, one.sampling_rate) for one in claim.calibrations] == [
        (4.0, 40, 0.1)
    ]
    assert claim.stated == ()
    assert claim.accounted_steps == 40


def test_flags_win_over_what_the_program_says(run) -> None:
    done = run("train(*private(), epochs=3)\nengine.get_epsilon(1e-5)\n")
    report = audited(done, epsilon=100.0, scheme=Poisson(0.2))
    assert (report.claim.epsilon, report.claim.scheme, report.claim.noise_multiplier) == (
        100.0,
        Poisson(0.2),
        1.5,
    )


@pytest.mark.parametrize(
    ("text", "verdict", "said"),
    [
        # The accountant knows of every second step.
        (
            "model, optimizer, loader = private()\nhook, calls = optimizer.step_hook, []\n"
            "optimizer.attach_step_hook(lambda o: (calls.append(0), len(calls) % 2 or hook(o)))\n"
            "train(model, optimizer, loader, 12)\nengine.get_epsilon(1e-5)\n",
            "refuted",
            "told of 60 steps; the optimizer made 120",
        ),
        # The same without asking for epsilon: what was accounted for is the claim.
        (
            "model, optimizer, loader = private()\nhook, calls = optimizer.step_hook, []\n"
            "optimizer.attach_step_hook(lambda o: (calls.append(0), len(calls) % 2 or hook(o)))\n"
            "train(model, optimizer, loader, 12)\n",
            "refuted",
            "told of 60 steps; the optimizer made 120",
        ),
        # The divisor of the update is no matter of privacy.
        (
            "model, optimizer, loader = private()\noptimizer.expected_batch_size = 1000\n"
            "train(model, optimizer, loader, 40)\nengine.get_epsilon(1e-5)\n",
            "consistent",
            "",
        ),
        # Epsilon asked for half-way is a claim on the first half.
        (
            "all = private()\ntrain(*all, epochs=20)\nengine.get_epsilon(1e-5)\ntrain(*all, epochs=20)\n",
            "consistent",
            "after 200 of 400 steps",
        ),
        ("train(model, base, plain, 8)\n", "inconclusive", "No claim"),
        ("train(*private(poisson_sampling=False), epochs=8)\nengine.get_epsilon(1e-5)\n", "refuted", ""),
    ],
)
def test_wrong_claims_get_the_verdict_that_they_deserve(run, text, verdict, said) -> None:
    report = audited(run(text))
    assert report.verdict.outcome.value == verdict
    assert said in " ".join(report.notes)


def test_a_claim_that_changes_on_the_way_is_judged_by_its_sampling_alone(run) -> None:
    text = """
model, optimizer, loader = private()
train(model, optimizer, loader, 4)
optimizer.noise_multiplier = 0.9
train(model, optimizer, loader, 4)
engine.get_epsilon(1e-5)
"""
    done = run(text)
    assert [part.noise_multiplier for part in done.claim.accounted] == [1.5, 0.9]
    report = audited(done)
    assert report.assumed
    assert any("2 different pairs" in note for note in report.notes)


def test_an_account_by_compute_rdp_is_read(run) -> None:
    text = """
from opacus.accountants.analysis import rdp
orders = [2, 4, 8]
parts = private()
for _ in range(2):
    train(*parts, epochs=1)
    curve = rdp.compute_rdp(q=0.1, noise_multiplier=1.5, steps=10, orders=orders)
    print(rdp.get_privacy_spent(orders=orders, rdp=curve, delta=1e-5))
"""
    stated = run(text).claim.stated
    assert [(one.delta, one.optimizer_steps) for one in stated] == [(1e-5, 10), (1e-5, 20)]
    assert [one.accounted[0].steps for one in stated] == [10, 10]
    assert stated[0].accountant.endswith("compute_rdp")


def test_sampling_that_cannot_be_read_off_is_not_judged(run) -> None:
    text = """
import dp_accounting
from dp_accounting import rdp
event = dp_accounting.SampledWithoutReplacementDpEvent(200, 20, dp_accounting.GaussianDpEvent(1.5))
replace = dp_accounting.NeighboringRelation.REPLACE_ONE
print(rdp.RdpAccountant(neighboring_relation=replace).compose(event, 20).get_epsilon(1e-5))
train(model, base, plain, 2)
"""
    report = audited(run(text))
    assert report.verdict.outcome.value == "inconclusive"
    assert "SampledWithoutReplacementDpEvent" in report.verdict.reasons[0].sentence
    assert audited(run(text), scheme=Poisson(0.1)).verdict.outcome.value != "inconclusive"


def test_a_resumed_accountant_keeps_its_steps(run) -> None:
    text = """
model, optimizer, loader = private()
engine.accountant.load_state_dict({"history": [(1.5, 0.1, 500)], "mechanism": "rdp"})
train(model, optimizer, loader, 3)
engine.get_epsilon(1e-5)
"""
    done = run(text)
    assert done.claim.accounted_steps == 530
    assert done.claim.stated[0].accounted[0].steps == 530


def test_dp_accounting_events_are_read(run) -> None:
    text = """
import dp_accounting
from dp_accounting import pld, rdp
event = dp_accounting.SelfComposedDpEvent(
    dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.5)), 30)
print(pld.PLDAccountant().compose(event).get_epsilon(1e-5))
accountant = rdp.RdpAccountant().compose(event).compose(event, 2)
print(accountant.get_epsilon(target_delta=1e-5))
train(*private(), epochs=2)
"""
    done = run(text)
    assert [(one.accountant, one.optimizer_steps) for one in done.claim.stated] == [
        ("dp_accounting PLDAccountant", 0),
        ("dp_accounting RdpAccountant", 0),
    ]
    assert [(part.sampling_rate, part.steps) for part in done.claim.accounted] == [(0.1, 90)]


def test_a_search_by_dp_accounting_is_a_claim(run) -> None:
    text = """
import dp_accounting
from dp_accounting import rdp
def event(noise):
    return dp_accounting.SelfComposedDpEvent(
        dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(noise)), 20)
found = dp_accounting.calibrate_dp_mechanism(rdp.RdpAccountant, event, 3.0, target_delta=1e-5)
train(model, base, plain, 2)
"""
    done = run(text)
    (plan,) = done.claim.calibrations
    assert (plan.target_epsilon, plan.target_delta, plan.sampling_rate, plan.steps) == (3.0, 1e-5, 0.1, 20)
    assert done.claim.stated == ()
    assert audited(done).verdict.outcome.value == "refuted"


@pytest.mark.parametrize(("rate", "warned"), [(0.1, True), (1, False)])
def test_epochs_that_are_accounted_for_without_sampling_are_not_called_missing_steps(
    run, rate: float, warned: bool
) -> None:
    text = f"""
import dp_accounting
event = dp_accounting.GaussianDpEvent(4.0)
event = event if {rate} == 1 else dp_accounting.PoissonSampledDpEvent({rate}, event)
train(model, base, plain, 2)
print(dp_accounting.rdp.RdpAccountant().compose(event, 2).get_epsilon(1e-5))
"""
    notes = audited(run(text)).notes
    assert any("the accountant was told of 2 steps" in note for note in notes) is warned
