"""What a training promises, and that clipping modes take the same way."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path

import pytest
import torch

from dpaudit import accounting
from dpaudit.audit.training import explain_clipping, prepare, train
from dpaudit.audit.training_privacy import plan_privacy
from dpaudit.audit.training_result import conclude
from dpaudit.dpsgd.clipping.choice import CLIPPING_MODES
from dpaudit.dpsgd.packaged import packaged_data, packaged_model
from dpaudit.errors import DpauditError
from dpaudit.scheme import BallsInBins, Poisson, Shuffle, TruncatedPoisson
from dpaudit.training_file import DEMO, TrainingSettings, interpret

DOCS = Path(__file__).parents[2] / "docs" / "training.md"


def settings(scheme, **given):
    table = {"scheme": scheme, "steps": 50, "delta": 1e-5, "noise_multiplier": 1.0, "learning_rate": 0.1}
    return TrainingSettings(**(table | given))


@pytest.mark.parametrize(
    ("table", "scheme"),
    [
        ({"name": "poisson", "batch_size": 50}, Poisson(0.05)),
        ({"name": "truncated_poisson", "rate": 0.05, "max_batch_size": 70}, TruncatedPoisson(0.05, 70)),
        ({"name": "balls_in_bins", "bins": 20}, BallsInBins(20)),
        ({"name": "shuffle", "batch_size": 50}, Shuffle(50)),
    ],
)
def test_epsilon_is_that_of_the_scheme_which_runs(table, scheme) -> None:
    plan = plan_privacy(settings(table, for_audit=table["name"] == "shuffle"), 1000)
    assert plan.scheme == scheme
    assert plan.expected_batch_size == pytest.approx(50)
    for steps in (1, 50):
        alone = accounting.epsilon(
            scheme, noise_multiplier=1.0, steps=steps, num_records=1000, delta=1e-5, adjacency="zero_out"
        )
        assert plan.epsilon_after(steps) == alone


def test_truncation_costs_delta() -> None:
    most = {"name": "truncated_poisson", "rate": 0.05, "max_batch_size": 52}
    cut = plan_privacy(settings(most), 1000).epsilon_after(50).upper
    assert cut > plan_privacy(settings({"name": "poisson", "rate": 0.05}), 1000).epsilon_after(50).upper


def test_calibrated_noise_meets_the_target() -> None:
    table = {"name": "poisson", "rate": 0.05}
    plan = plan_privacy(settings(table, noise_multiplier=None, target_epsilon=1.0), 1000)
    assert 0.98 < plan.epsilon_after(50).upper <= 1.0


def test_what_must_not_depend_on_the_number_of_records() -> None:
    secret = {"adjacency": "add_or_remove_one"}
    with pytest.raises(DpauditError, match="secret"):
        plan_privacy(settings({"name": "poisson", "rate": 0.05}, **secret), 1000)
    with pytest.raises(DpauditError, match="secret"):
        plan_privacy(settings({"name": "poisson", "batch_size": 50}, expected_batch_size=50, **secret), 1000)
    public = settings({"name": "poisson", "rate": 0.05}, expected_batch_size=50, **secret)
    plans = [plan_privacy(public, records) for records in (1000, 1001)]
    assert len({(plan.expected_batch_size, plan.noise_multiplier) for plan in plans}) == 1


def test_no_noise_is_no_privacy() -> None:
    with pytest.raises(DpauditError, match="no privacy"):
        plan_privacy(settings({"name": "poisson", "rate": 0.05}, noise_multiplier=0.0), 1000)
    plan = plan_privacy(
        settings({"name": "poisson", "rate": 0.05}, noise_multiplier=0.0, for_audit=True), 1000
    )
    assert plan.epsilon_after(3).lower == math.inf


def test_a_delta_that_promises_nothing_is_told() -> None:
    table = {"name": "poisson", "rate": 0.05}
    assert plan_privacy(settings(table), 1000).notes == ()
    assert "publish one record" in plan_privacy(settings(table, delta=1e-3), 1000).notes[0]


def test_explaining_leaves_nothing_for_the_first_step() -> None:
    content = {"model": {"name": "mlp", "width": 8}, "data": {"name": "doctor_visits"}}
    content["training"] = {
        "scheme": {"name": "poisson", "batch_size": 64}, "steps": 2, "delta": 1e-5, "seed": 3,
        "noise_multiplier": 1.0, "learning_rate": 0.5,
    }  # fmt: skip
    weights = []
    for explains in (False, True):
        ready = prepare(interpret(content, None))
        if explains:
            explain_clipping(ready)
        train(ready)
        weights.append([weight.detach() for weight in ready.trainer.private.engine.model.parameters()])
    assert all(torch.allclose(one, other, rtol=1e-5) for one, other in zip(*weights, strict=True))


def trained(name, model, **given):
    content = {"model": {"name": model, "width": 8}, "data": {"name": name}}
    table = {"scheme": {"name": "poisson", "batch_size": 64}, "steps": 12, "delta": 1e-5, "seed": 3}
    content["training"] = table | {"noise_multiplier": 1.0, "learning_rate": 0.5, "dtype": "float64"} | given
    ready = prepare(interpret(content, None))
    train(ready)
    weights = ready.trainer.private.engine.model.parameters()
    return torch.cat([weight.detach().flatten() for weight in weights]), conclude(ready)


@pytest.mark.parametrize(
    ("data", "model"),
    [("doctor_visits", "mlp"), pytest.param("digits", "cnn", marks=pytest.mark.slow),
     pytest.param("digits", "transformer", marks=pytest.mark.slow)],
)  # fmt: skip
def test_clipping_modes_take_the_same_way(data, model) -> None:
    if data == "digits":
        pytest.importorskip("sklearn")
    oracle, result = trained(data, model, clipping="per_sample")
    assert result.steps == 12
    for mode in CLIPPING_MODES:
        weights, _ = trained(data, model, clipping=mode, physical_batch_size=40, fixed_shape=mode == "bk")
        assert torch.allclose(weights, oracle, rtol=1e-9, atol=1e-11), mode


def test_packaged_data_are_what_the_docs_say() -> None:
    visits = packaged_data("doctor_visits")
    assert len(visits.inputs) + len(visits.test_inputs) == 20_190
    assert visits.inputs.abs().max() < 6
    assert set(visits.targets.tolist()) == {0, 1, 2, 3}
    assert torch.equal(visits.inputs, packaged_data("doctor_visits").inputs)
    with pytest.raises(DpauditError, match="no packaged data set") as caught:
        packaged_data("digit")
    assert "digits" in caught.value.hint
    with pytest.raises(DpauditError, match="takes images"):
        packaged_model("cnn", torch.Size((9,)), 4, width=8, depth=1)
    wide = packaged_model("transformer", torch.Size((3, 4, 5)), 4, width=8, depth=1)
    assert wide(torch.randn(2, 3, 4, 5)).shape == (2, 4)
    flat = packaged_model("transformer", torch.Size((9,)), 4, width=8, depth=1)
    assert flat(torch.randn(2, 9)).shape == (2, 4)


def test_the_demo_and_the_docs_can_be_trained() -> None:
    pytest.importorskip("sklearn")
    block = re.search(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for text in (DEMO, block[1]):
        ready = prepare(interpret(tomllib.loads(text), None))
        assert len(list(ready.trainer.run(1))) == 1
