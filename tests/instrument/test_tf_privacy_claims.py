"""What is read of TF-Privacy; versions before 0.9 by a stand-in for their accountant."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from dpaudit.instrument.script import Program, ReadClaim, record_script
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.tf_privacy_claims import RDP_ACCOUNTANT, OldAccountant
from dpaudit.instrument.seeding import restored


def test_the_old_accountant_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(RDP_ACCOUNTANT)

    def compute_rdp(q, noise_multiplier, steps, orders):
        return [0.1 for _ in orders]

    def get_privacy_spent(orders, rdp, target_eps=None, target_delta=None):
        return 3.5, target_delta, orders[0]

    module.compute_rdp, module.get_privacy_spent = compute_rdp, get_privacy_spent
    monkeypatch.setitem(sys.modules, RDP_ACCOUNTANT, module)
    monkeypatch.setattr("dpaudit.instrument.script.tf_privacy_claims.import_module", lambda name: module)
    log = ClaimLog(lambda: 0)
    patches = OldAccountant(Session(), log)
    patches.install()
    orders = [2.0, 4.0]
    rdp = module.compute_rdp(q=0.05, noise_multiplier=1.1, steps=280, orders=orders)
    module.get_privacy_spent(orders, rdp, target_delta=1e-5)
    module.compute_rdp(0.05, 1.1, 280, orders)
    patches.remove()
    assert module.compute_rdp is compute_rdp
    stated = log.read().stated[0]
    assert (stated.epsilon, stated.delta) == (3.5, 1e-5)
    for accounted in (*stated.accounted, *log.read().accounted):
        assert (accounted.sampling_rate, accounted.noise_multiplier, accounted.steps) == (0.05, 1.1, 280)


SETUP = """
import numpy as np, tensorflow as tf, tensorflow_privacy as tfp
X = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
layers = [tf.keras.Input((3,)), tf.keras.layers.Dense(2)]

def fit(optimizer, model=None):
    model = model or tf.keras.Sequential(layers)
    model.compile(optimizer, loss)
    model.fit(X, Y, batch_size=6, epochs=2, verbose=0)
"""


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[ReadClaim, str]]:
    pytest.importorskip("tensorflow_privacy")
    monkeypatch.setattr(sys, "path", [*sys.path])

    def read(text: str) -> tuple[ReadClaim, str]:
        (tmp_path / "train.py").write_text(SETUP + text)
        with restored(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run = record_script(Program(str(tmp_path / "train.py")), strict=True)
        assert not run.ending.is_failure, run.ending.traceback
        assert run.steps in (10, 20)
        return run.claim, run.doubt

    return read


@pytest.mark.parametrize(
    ("text", "noise", "doubt"),
    [
        ("fit(tfp.DPKerasSGDOptimizer(2.0, 1.5, num_microbatches=6))", 1.5, ""),
        ("fit(tfp.DPKerasAdamOptimizer(2.0, 1.5, num_microbatches=2))", 1.5, "microbatches of several"),
        ("fit(tfp.VectorizedDPKerasSGDOptimizer(2.0, 1.5))", 1.5, ""),
        ("fit(tfp.DPKerasSGDOptimizer(2.0, 1.5, 6, gradient_accumulation_steps=2))", 1.5 * 2**0.5, ""),
        ("fit('sgd', tfp.DPSequential(2.0, 1.5, layers=layers, use_xla=False))", 1.5, ""),
    ],
)
def test_the_noise_of_optimizers_and_models_is_read(claims, text: str, noise: float, doubt: str) -> None:
    claim, why = claims(text)
    assert [used.clip_norm for used in claim.noise] == [2.0]
    assert [used.noise_multiplier for used in claim.noise] == [pytest.approx(noise)]
    assert doubt in why
    assert bool(doubt) == bool(why)


def test_division_by_the_drawn_size_is_named(claims) -> None:
    text = (
        "model = tf.keras.Sequential(layers)\n"
        "model.compile(tfp.DPKerasSGDOptimizer(2.0, 1.5), loss)\n"
        "for size in range(1, 11):\n    model.train_on_batch(X[:size], Y[:size])\n"
    )
    assert "number of records of each batch" in claims(text)[1]


def test_noise_that_is_no_gaussian_of_one_scale_is_named(claims) -> None:
    claim, _ = claims("fit(tfp.GenericDPSGDOptimizer(tfp.NoPrivacySumQuery(), num_microbatches=6))")
    assert claim.unread == ("the noise of TF-Privacy's NoPrivacySumQuery",)


def test_answers_are_read_with_what_was_asked(claims) -> None:
    text = (
        "fit('sgd')\n"
        "tfp.compute_dp_sgd_privacy(60, 6, 1.5, 2, 1e-5)\n"
        "tfp.compute_dp_sgd_privacy_statement(60, 6, 2, 1.5, 1e-5)\n"
        "tfp.compute_dp_sgd_privacy_statement(60, 6, 2, 1.5, 1e-5, False, 3)\n"
    )
    claim, _ = claims(text.replace("fit('sgd')", "fit(tfp.VectorizedDPKerasSGDOptimizer(1.0, 1.5))"))
    by_rate, in_words, _ = claim.stated
    (poisson,), (whole,) = by_rate.accounted, in_words.accounted
    assert (poisson.sampling_rate, poisson.noise_multiplier, poisson.steps) == (0.1, 1.5, 20)
    assert (whole.sampling_rate, whole.noise_multiplier, whole.steps) == (1.0, 0.75, 2)
    assert by_rate.epsilon < in_words.epsilon
    assert claim.unread == ("a guarantee for users with several records each",)
