"""The loaders of the shipped audits do what their claim files say that they do."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from dpaudit.claim_file import read_claim_file
from dpaudit.instrument import Recording, capture, load_target
from dpaudit.scheme import Poisson, Shuffle

pytest.importorskip("sklearn")
pytest.importorskip("opacus")

AUDITS = Path(__file__).parents[2] / "audits"
# Canary files speak of a training, not of a loader.
NAMES = sorted(path.stem for path in AUDITS.glob("*.toml") if not path.stem.startswith("canary_"))


def recorded(name: str, monkeypatch: pytest.MonkeyPatch, steps: int = 72) -> Recording:
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = read_claim_file(AUDITS / f"{name}.toml")
    assert file.target is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Opacus on its generator
        return capture(load_target(file.target), steps=steps, seed=0)


def test_there_are_six_audits_each_with_a_verdict() -> None:
    assert len(NAMES) == 6
    verdicts = {name: read_claim_file(AUDITS / f"{name}.toml").expected for name in NAMES}
    assert {name for name, verdict in verdicts.items() if verdict == "consistent"} == {
        "opacus_poisson",
        "shuffle_unamplified",
    }
    assert {name for name, verdict in verdicts.items() if verdict == "unsupported"} == {"poisson_truncated"}


@pytest.mark.parametrize("name", NAMES)
def test_every_loader_draws_from_all_1536_records(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = recorded(name, monkeypatch).trace
    assert trace.num_records == 1536
    assert trace.epoch_starts.tolist() == [0, 24, 48]
    assert len(np.unique(trace.indices)) > 1400
    sizes = trace.batch_sizes
    if name.startswith(("opacus_poisson", "poisson")):
        assert len(set(sizes.tolist())) > 10
        assert (sizes.max() <= 72) == (name == "poisson_truncated")
    else:
        assert set(sizes.tolist()) == {64}
        first, second = (sorted(trace.indices[k * 1536 : (k + 1) * 1536].tolist()) for k in (0, 1))
        assert first == second == list(range(1536))
        repeats = bool((trace.indices[:1536] == trace.indices[1536:3072]).all())
        assert repeats == (name == "distributed_same_order")


@pytest.mark.parametrize("name", NAMES)
def test_claimed_epsilon_is_the_true_one_rounded_up(name: str) -> None:
    claim = read_claim_file(AUDITS / f"{name}.toml").claim
    assert claim.delta is not None
    if isinstance(claim.scheme, Shuffle):
        from scipy.stats import norm

        mu, epsilon = math.sqrt(claim.epochs) / claim.noise_multiplier, claim.epsilon
        loss = norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2)
        lower = norm.cdf(-(epsilon - 0.01) / mu + mu / 2)
        lower -= math.exp(epsilon - 0.01) * norm.cdf(-(epsilon - 0.01) / mu - mu / 2)
        assert loss <= claim.delta < lower
        return
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    assert isinstance(claim.scheme, Poisson)
    accountant = PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    step = dp_accounting.PoissonSampledDpEvent(
        claim.scheme.rate, dp_accounting.GaussianDpEvent(claim.noise_multiplier)
    )
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, claim.total_steps))
    assert claim.epsilon - 0.01 < accountant.get_epsilon(claim.delta) <= claim.epsilon
