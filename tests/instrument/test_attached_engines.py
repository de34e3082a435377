"""Claims of FastDP and private-transformers: of the libraries where installed, else of their stand-ins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpaudit.audit.script import audit_script
from dpaudit.claim import PrivacyClaim
from dpaudit.instrument.script import Program, ScriptRun, record_script
from dpaudit.instrument.seeding import restored
from dpaudit.provenance import collect

pytest.importorskip("torch")
STAND_INS = Path(__file__).parents[1] / "stand_ins"
SETUP = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from {library} import PrivacyEngine
torch.manual_seed(0)
N, B = 200, 20
data = TensorDataset(torch.randn(N, 3), torch.randint(0, 2, (N,)))
draws = [torch.nonzero(torch.rand(N) < B / N).flatten().tolist() for _ in range(60)]
loader = DataLoader(data, batch_sampler=draws)
model = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def engine(attach=True, **options):
    made = PrivacyEngine(model, **{{"batch_size": B, "sample_size": N, "epochs": 6, "max_grad_norm": 0.7,
        "target_delta": 1e-5, "skip_checks": True, **options}})
    if attach:
        made.attach(optimizer)
    return made

def losses(batch):
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
"""
STEPS = {
    "fastDP": "for batch in loader:\n    losses(batch).mean().backward()\n    optimizer.step()\n",
    "private_transformers": "for batch in loader:\n    optimizer.step(loss=losses(batch))\n",
}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [*sys.path, str(STAND_INS)])
    with restored():
        yield


@pytest.fixture(params=STEPS)
def library(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., ScriptRun]:
    def ran(library: str, text: str) -> ScriptRun:
        (tmp_path / "train.py").write_text(SETUP.format(library=library) + text)
        run = record_script(Program(str(tmp_path / "train.py")), strict=True)
        assert not run.ending.is_failure, run.ending.traceback
        return run

    return ran


def verdict(run: ScriptRun) -> tuple[str, str]:
    report = audit_script(run, PrivacyClaim(), provenance=collect(command=[]))
    return report.verdict.outcome.value, report.verdict.reasons[0].sentence


def test_every_number_of_an_engine_is_read_off(run, library: str) -> None:
    text = "made = engine(noise_multiplier=1.5)\n" + STEPS[library]
    done = run(library, text + "answer = made.get_privacy_spent()['eps_rdp']\n")
    (engine,), (accounted,), (noise,), (stated,) = (
        done.claim.engines, done.claim.accounted, done.claim.noise, done.claim.stated
    )  # fmt: skip
    assert (engine.noise_multiplier, engine.clip_norm, engine.sampling_rate) == (1.5, 0.7, 0.1)
    assert (engine.num_records, engine.expected_batch_size, engine.poisson_sampling) == (200, 20, True)
    assert (accounted.sampling_rate, accounted.noise_multiplier, accounted.steps) == (0.1, 1.5, 60)
    assert (noise.noise_multiplier, noise.clip_norm, noise.expected_batch_size, noise.steps) == (
        1.5,
        0.7,
        20,
        60,
    )
    assert (stated.delta, stated.optimizer_steps, stated.accounted[0].steps) == (1e-5, 60, 60)
    assert done.claim.library.startswith(library)
    assert done.claim.unread == ()
    assert verdict(done)[0] not in ("refuted", "unsupported")


def test_a_target_is_the_claim_where_nothing_was_asked(run, library: str) -> None:
    done = run(library, "made = engine(target_epsilon=5.0)\n" + STEPS[library])
    (plan,) = done.claim.calibrations
    assert (plan.target_epsilon, plan.target_delta, plan.sampling_rate, plan.steps) == (5.0, 1e-5, 0.1, 60)
    assert plan.noise_multiplier == done.claim.noise[0].noise_multiplier
    assert done.claim.stated == ()
    assert verdict(done)[0] not in ("refuted", "unsupported")


def test_an_answer_for_other_steps_is_held_against_those_that_were_made(run, library: str) -> None:
    text = "made = engine(noise_multiplier=1.5)\n" + STEPS[library] + "made.get_privacy_spent(steps=5)\n"
    done = run(library, text)
    assert done.claim.stated[0].accounted[0].steps == 5
    assert done.claim.accounted_steps == 60
    assert verdict(done)[0] == "refuted"


def test_all_modes_are_answers(run, library: str) -> None:
    text = "made = engine(noise_multiplier=1.5)\n" + STEPS[library]
    done = run(
        library, text + "made.get_privacy_spent(accounting_mode='all')\nmade.get_privacy_spent(steps=0)\n"
    )
    assert [one.accountant.split()[-1] for one in done.claim.stated] == ["RDPManager", "GLWManager"]


def test_a_manager_that_is_asked_by_itself_is_read(run, library: str) -> None:
    text = f"""
from {library}.accounting import accounting_manager
manager = accounting_manager.RDPManager(alphas=accounting_manager.DEFAULT_ALPHAS)
sigma = manager.compute_sigma(4.0, 1e-5, sample_rate=0.1, steps=60)
made = engine(noise_multiplier=sigma)
"""
    done = run(library, text + STEPS[library])
    assert [(one.target_epsilon, one.steps) for one in done.claim.calibrations] == [(4.0, 60)]
    assert done.claim.stated == ()


def test_an_engine_without_an_optimizer_is_not_judged(run, library: str) -> None:
    text = "engine(False, noise_multiplier=1.5)\nfor batch in loader:\n    losses(batch).mean().backward()\n"
    outcome, why = verdict(run(library, text + "    optimizer.step()\n"))
    assert outcome == "inconclusive"
    assert "attached to no optimizer" in why


def test_the_step_from_before_the_engine_is_found_out(run, library: str) -> None:
    text = "bare = optimizer.step\nengine(target_epsilon=5.0)\nfor batch in loader:\n"
    done = run(library, text + "    losses(batch).mean().backward()\n    bare()\n")
    assert done.steps == 60
    assert done.claim.accounted_steps == 0
    assert any("was told of 0 steps" in note for note in audit_script(
        done, PrivacyClaim(), provenance=collect(command=[])).notes)  # fmt: skip


def test_virtual_steps_count_once_and_hold_all_their_batches(run) -> None:
    for mode in ("default", "ghost"):
        text = (
            f"engine(noise_multiplier=1.5, clipping_mode={mode!r})\n"
            + """
for number, batch in enumerate(loader, 1):
    (optimizer.virtual_step if number % 3 else optimizer.step)(loss=losses(batch))
"""
        )
        done = run("private_transformers", text)
        assert (done.steps, done.claim.accounted_steps, done.main.batches) == (20, 20, 60)


def test_accumulated_gradients_count_once_and_hold_all_their_batches(run) -> None:
    text = """
engine(noise_multiplier=1.5)
for number, batch in enumerate(loader, 1):
    losses(batch).mean().backward()
    if number % 3 == 0:
        optimizer.step()
"""
    done = run("fastDP", text)
    assert (done.steps, done.claim.accounted_steps, done.main.batches) == (20, 20, 60)


def test_less_noise_on_the_parameters_than_accounted_for_is_found_out(run) -> None:
    text = "engine(noise_multiplier=1.5, num_GPUs=4)\n" + STEPS["fastDP"]
    done = run("fastDP", text)
    assert done.claim.noise[0].noise_multiplier == pytest.approx(0.75)
    assert verdict(done)[0] == "refuted"


def test_distributed_engines_of_fastdp_are_not_judged(run) -> None:
    text = """
from fastDP import PrivacyEngine_Distributed_extending
PrivacyEngine_Distributed_extending(model, batch_size=B, sample_size=N, noise_multiplier=1.5)
for batch in loader:
    losses(batch).mean().backward()
    optimizer.step()
"""
    outcome, why = verdict(run("fastDP", text))
    assert outcome == "inconclusive"
    assert "PrivacyEngine_Distributed_extending" in why


def test_a_version_without_the_known_places_is_not_judged(tmp_path: Path, run, monkeypatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "fastDP").mkdir()
    (tmp_path / "other" / "fastDP" / "__init__.py").write_text("class PrivacyEngine:\n    pass\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "fastDP"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "other"))
    text = "for batch in loader:\n    losses(batch).mean().backward()\n    optimizer.step()\n"
    outcome, why = verdict(run("fastDP", text))
    sys.modules.pop("fastDP", None)
    assert outcome == "inconclusive"
    assert "accounting" in why


def test_patches_are_gone_afterwards(run, library: str) -> None:
    module = __import__(library)
    before = dict(vars(module.PrivacyEngine))
    run(library, "made = engine(noise_multiplier=1.5)\n" + STEPS[library])
    assert dict(vars(module.PrivacyEngine)) == before
