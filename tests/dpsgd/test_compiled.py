"""The compiled engine: one graph for a whole run, the same numbers, and refusals instead of wrong ones."""

from __future__ import annotations

import copy
import shutil
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpaudit.dpsgd import (
    BatchSampler,
    ClippingEngine,
    CompiledEngine,
    PrivateTrainer,
    UnsupportedModelError,
    make_private,
)
from dpaudit.dpsgd.packaged import packaged_model
from dpaudit.scheme import Poisson

from .zoo import MODES


def loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def seeded(number):
    return torch.Generator().manual_seed(number)


def mlp():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def data(records=40):
    torch.manual_seed(3)
    return torch.randn(records, 4, dtype=torch.float64), torch.randint(3, (records,))


def assert_same(model, inputs, targets, mask=None, rtol=1e-9, **options):
    plain = ClippingEngine(model, loss, clip_norm=0.3, **options)
    compiled = CompiledEngine(model, loss, clip_norm=0.3, backend="eager", **options)
    for _ in range(2):
        one, other = plain(inputs, targets, mask), compiled(inputs, targets, mask)
        assert one.sums.keys() == other.sums.keys()
        for name, total in one.sums.items():
            assert torch.allclose(total, other.sums[name], rtol=rtol, atol=1e-3 * rtol)
        for field in ("norms", "losses", "factors", "refused"):
            assert torch.allclose(getattr(one, field), getattr(other, field), equal_nan=True)
        with torch.no_grad():  # the graph must see the new weights
            for parameter in model.parameters():
                parameter.mul_(1.25)
    assert compiled.compilations == 1


SLOWER = [
    pytest.param(mode, marks=pytest.mark.slow) for mode in MODES if mode not in ("per_sample", "bk_mix_opt")
]


@pytest.mark.parametrize("mode", ["per_sample", "bk_mix_opt", *SLOWER])
def test_every_mode_gives_the_same_sums(mode) -> None:
    inputs, targets = data(8)
    assert_same(mlp(), inputs, targets, torch.arange(8) % 3 > 0, clipping=mode)


@pytest.mark.parametrize(
    ("name", "groups"), [("cnn", "per_layer"), pytest.param("transformer", "flat", marks=pytest.mark.slow)]
)
def test_packaged_models_compile(name, groups) -> None:
    torch.manual_seed(0)
    model = packaged_model(name, torch.Size((1, 8, 8)), 3, width=8, depth=1).double()
    assert_same(model, torch.randn(5, 1, 8, 8).double(), torch.arange(5) % 3, groups=groups)


def test_gram_norms_of_sequences_follow_the_weights() -> None:
    """Their kernel leaves no trace of its own: it must be in the graph as an operator."""
    model = nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 30), nn.Flatten(), nn.Linear(150, 3))
    assert_same(model, torch.randn(6, 5, 4), torch.arange(6) % 3, clipping="bk", rtol=1e-5)


def test_a_poisoned_record_adds_nothing() -> None:
    inputs, targets = data(8)
    inputs[2] = torch.nan
    assert_same(mlp(), inputs, targets)
    assert_same(mlp(), inputs, targets, torch.arange(8) != 2)  # masked, it is not even refused
    with pytest.raises(ValueError, match="record 2 of the batch is not finite"):
        CompiledEngine(mlp(), loss, clip_norm=1.0, nonfinite="raise", backend="eager")(inputs, targets)


class Asks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3).double()

    def forward(self, x):
        return self.layer(x) * (2.0 if float(self.layer.bias.detach().sum()) > 0 else 1.0)


def test_what_depends_on_values_is_refused_by_name() -> None:
    inputs, targets = data(6)
    with pytest.raises(UnsupportedModelError, match="cannot be compiled"):
        CompiledEngine(Asks(), loss, clip_norm=1.0, backend="eager")(inputs, targets)
    looked_up = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(20, 3))
    ids = torch.randint(20, (6, 5))
    with pytest.raises(UnsupportedModelError, match=r"unique.*size that depends on values"):
        CompiledEngine(looked_up, loss, clip_norm=1.0, backend="eager")(ids, targets)
    assert_same(looked_up, ids, targets, clipping="per_sample")


def run(compile, scheme=Poisson(0.15), steps=25, backend=None, **options):  # noqa: B008
    inputs, targets = data()
    model = mlp()
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=0.1), loss=loss, clip_norm=0.5, noise_multiplier=1.0,
        expected_batch_size=6, generator=seeded(9), compile=compile,
    )  # fmt: skip
    if backend:
        private.engine.backend = backend
    loop = PrivateTrainer(
        private, BatchSampler(scheme, 40, seeded(4)), lambda n: (inputs[n], targets[n]), **options
    )
    sizes = [report.records for report in loop.run(steps)]
    return torch.cat([weight.detach().flatten() for weight in model.parameters()]), sizes, private.engine


def test_masked_fixed_shapes_need_one_compilation_for_a_whole_run() -> None:
    seen = Counter()

    def counting(graph, example_inputs):
        seen["compilations"] += 1
        return graph.forward

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fixed = {"physical_batch_size": 4, "fixed_shape": True}
    compiled, sizes, engine = run(True, backend=counting, **fixed)
    assert len(set(sizes)) > 4
    assert seen["compilations"] == engine.compilations == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert torch.allclose(compiled, run(False)[0], rtol=1e-9)
    seen.clear()
    _, sizes, engine = run(True, backend=counting, physical_batch_size=4)
    assert seen["compilations"] == engine.compilations > 1, "without masks every size is compiled"


def test_an_empty_batch_first_compiles_nothing() -> None:
    weights, sizes, engine = run(True, scheme=Poisson(1e-9), steps=2, backend="eager")
    assert sizes == [0, 0]
    assert engine.compilations == 0
    assert torch.isfinite(weights).all()


def test_modes_of_modules_make_graphs_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    inputs, targets = data(6)
    engine = CompiledEngine(model, loss, clip_norm=1.0, backend="eager")
    drawn = engine(inputs, targets).losses
    assert not torch.equal(drawn, engine(inputs, targets).losses), "dropout draws anew in every call"
    still = engine.__class__(model.eval(), loss, clip_norm=1.0, backend="eager")
    assert torch.equal(still(inputs, targets).losses, still(inputs, targets).losses)
    engine(inputs, targets)
    assert engine.compilations == 2
    model[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="changed since"):
        engine(inputs, targets)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_inductor_gives_the_same_training_in_one_compilation() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled, _, engine = run(True, physical_batch_size=4, fixed_shape=True)
    assert engine.compilations == 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert torch.allclose(compiled, run(False)[0], rtol=1e-9)


def test_the_first_batch_does_not_move_the_random_state() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)).double()
    inputs, targets = data(6)
    results = []
    for calls in (1, 2):
        engine = CompiledEngine(copy.deepcopy(model), loss, clip_norm=1.0, backend="eager")
        for _ in range(calls):
            torch.manual_seed(5)
            found = engine(inputs, targets).losses
        results.append(found)
    assert torch.equal(*results), "a resumed run compiles later than the first did"
