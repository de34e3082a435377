"""Clip functions, groups, precision, budgets, routes and random architectures."""

from __future__ import annotations

import copy
import math

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from torch import nn

from dpaudit.dpsgd import ClippingEngine, clipped_gradients
from dpaudit.dpsgd.clipping.allotment import Candidate, allot
from dpaudit.dpsgd.clipping.choice import LayerChoice, RouteChooser
from dpaudit.dpsgd.clipping.convolution import ConvolutionBook
from dpaudit.dpsgd.clipping.convolution_products import Geometry, gradient_by_offsets, weight_gradient
from dpaudit.dpsgd.clipping.groups import make_groups
from dpaudit.dpsgd.clipping.linear import LinearBook, gram_squared_norms
from dpaudit.dpsgd.clipping.routes import Route

from .zoo import MODES, ZOO, brute_force, relative_error, smooth_loss


def records_of(model, inputs, targets):
    """Every record's gradient of every parameter."""
    found = [
        brute_force(model, inputs[i : i + 1], targets[i : i + 1], smooth_loss, 1e9)[0]
        for i in range(len(targets))
    ]
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}


def case():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).double()
    return model, torch.randn(7, 3, 4, dtype=torch.float64), torch.rand(7, dtype=torch.float64)


def norms_of(gradients, names):
    return sum(gradients[name].flatten(1).square().sum(1) for name in names).sqrt()


@pytest.mark.parametrize("mode", MODES)
def test_automatic_clipping(mode):
    model, inputs, targets = case()
    gradients = records_of(model, inputs, targets)
    norms = norms_of(gradients, gradients)
    found = clipped_gradients(
        model, inputs, targets, smooth_loss, clip_norm=0.7, clipping=mode, clip_function="automatic"
    )
    expected = {n: torch.einsum("b,b...->...", 0.7 / (norms + 0.01), g) for n, g in gradients.items()}
    assert relative_error(found.sums, expected) < 1e-10


@pytest.mark.parametrize("mode", MODES)
def test_clip_function_of_the_user(mode):
    model, inputs, targets = case()
    gradients = records_of(model, inputs, targets)
    smooth = lambda norms, c: c / (norms.square() + c * c).sqrt()  # noqa: E731
    factors = smooth(norms_of(gradients, gradients), 0.7)
    found = clipped_gradients(
        model, inputs, targets, smooth_loss, clip_norm=0.7, clipping=mode, clip_function=smooth
    )
    assert torch.allclose(found.factors[0], factors)
    assert (
        relative_error(found.sums, {n: torch.einsum("b,b...->...", factors, g) for n, g in gradients.items()})
        < 1e-10
    )


GROUPINGS = {
    "per layer": ("per_layer", 0.6),
    "two groups": (
        {"0.weight": "a", "0.bias": "b", "1.weight": "a", "1.bias": "b", "3.weight": "b", "3.bias": "a"},
        0.6,
    ),
    "own norms": (
        {"0.weight": "a", "0.bias": "a", "1.weight": "b", "1.bias": "b", "3.weight": "b", "3.bias": "b"},
        {"a": 0.2, "b": 0.9},
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GROUPINGS)
def test_groups(mode, name):
    grouping, clip_norm = GROUPINGS[name]
    model, inputs, targets = case()
    gradients = records_of(model, inputs, targets)
    found = clipped_gradients(
        model, inputs, targets, smooth_loss, clip_norm=clip_norm, clipping=mode, groups=grouping
    )
    groups = make_groups(list(gradients), grouping, clip_norm)
    for group, bound in enumerate(groups.clip_norms):
        names = [n for n in gradients if groups.index[n] == group]
        factors = (bound / norms_of(gradients, names)).clamp(max=1)
        expected = {n: torch.einsum("b,b...->...", factors, gradients[n]) for n in names}
        assert relative_error({n: found.sums[n] for n in names}, expected) < 1e-10
    assert torch.allclose(found.norms, norms_of(gradients, gradients))


def test_groups_of_tied_and_merged_parameters():
    torch.manual_seed(0)
    for name in ("merged lora", "tied embedding and head", "chunked weight", "weight norm", "lstm"):
        make_model, make_inputs = ZOO[name]
        model, inputs = make_model().double(), make_inputs()
        targets = torch.ones(5, dtype=torch.float64)
        grouping = {n: n for n, _ in model.named_parameters()}
        oracle = clipped_gradients(
            model, inputs, targets, smooth_loss, clip_norm=0.5, clipping="per_sample", groups=grouping
        )
        for mode in MODES[1:]:
            found = clipped_gradients(
                model, inputs, targets, smooth_loss, clip_norm=0.5, clipping=mode, groups=grouping
            )
            assert relative_error(found.sums, oracle.sums) < 1e-10, (name, mode)


def test_sensitivity_of_groups_is_the_clip_norm():
    for grouping in ("flat", "per_layer"):
        groups = make_groups(["a.weight", "a.bias", "b.weight", "c"], grouping, 1.3)
        assert math.isclose(groups.sensitivity, 1.3)
    assert math.isclose(make_groups(["x", "y"], {"x": "1", "y": "2"}, {"1": 3.0, "2": 4.0}).sensitivity, 5.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["mlp", "conv stack", "transformer layer", "tied embedding and head", "lstm"]
)
def test_single_precision(mode, name):
    """Norms within 1e-4 and sums within 1e-5 of double precision, relative."""
    torch.manual_seed(4)
    make_model, make_inputs = ZOO[name]
    model, inputs = make_model(), make_inputs()
    double = copy.deepcopy(model).double()
    expected, norms, _ = brute_force(double, inputs, torch.ones(5, dtype=torch.float64), smooth_loss, 0.5)
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    found = clipped_gradients(model, inputs, torch.ones(5), smooth_loss, clip_norm=0.5, clipping=mode)
    assert torch.allclose(found.norms.double(), norms, rtol=1e-4)
    assert relative_error({n: s.double() for n, s in found.sums.items()}, expected) < 1e-5
    assert all(s.dtype == torch.float32 for s in found.sums.values())


@pytest.mark.parametrize("mode", MODES[1:])
@pytest.mark.parametrize("name", ["mlp", "conv stack", "transformer layer", "tied embedding and head"])
@pytest.mark.parametrize("whole", [True, False])
def test_half_precision(mode, name, whole):
    """Under bfloat16, by autocast or throughout, books are in float32: within 3 % of double precision."""
    torch.manual_seed(4)
    make_model, make_inputs = ZOO[name]
    model, inputs = make_model(), make_inputs()
    expected, norms, _ = brute_force(
        copy.deepcopy(model).double(), inputs, torch.ones(5, dtype=torch.float64), smooth_loss, 0.5
    )
    if whole:
        model = model.bfloat16()
    if inputs.is_floating_point():
        inputs = inputs.bfloat16() if whole else inputs.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=not whole):
        found = clipped_gradients(
            model, inputs, torch.ones(5), lambda o, t: smooth_loss(o.float(), t), clip_norm=0.5, clipping=mode
        )
    assert found.norms.dtype == torch.float32
    assert all(s.dtype == torch.float32 for s in found.sums.values())
    assert torch.allclose(found.norms.double(), norms, rtol=3e-2)
    assert relative_error({n: s.double() for n, s in found.sums.items()}, expected) < 3e-2


@pytest.mark.parametrize(
    "name", ["conv stack", "merged lora", "overlapping slices", "linear on four dimensions"]
)
@pytest.mark.parametrize("mode", MODES)
def test_a_small_memory_budget_changes_nothing(name, mode):
    torch.manual_seed(1)
    make_model, make_inputs = ZOO[name]
    model, inputs, targets = make_model().double(), make_inputs(), torch.ones(5, dtype=torch.float64)
    expected, norms, _ = brute_force(model, inputs, targets, smooth_loss, 0.5)
    found = ClippingEngine(model, smooth_loss, clip_norm=0.5, clipping=mode, memory_budget=1)(inputs, targets)
    assert torch.allclose(found.norms, norms)
    assert relative_error(found.sums, expected) < 1e-10


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 300])
def test_gram_norms_in_blocks(length):
    torch.manual_seed(0)
    inputs, grads = torch.randn(3, length, 5).double(), torch.randn(3, length, 4).double()
    expected = LinearBook(inputs, grads).per_record(slice(None)).square().sum((1, 2))
    assert torch.allclose(gram_squared_norms(inputs, grads), expected, rtol=1e-12)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@hypothesis.given(
    kernel=pairs(1, 3), stride=pairs(1, 3), padding=pairs(0, 2), dilation=pairs(1, 2),
    groups=st.sampled_from([1, 2]), transposed=st.booleans(),
)  # fmt: skip
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
def test_every_route_of_a_convolution_gives_the_same(kernel, stride, padding, dilation, groups, transposed):
    torch.manual_seed(0)
    hypothesis.assume(
        not transposed or all(p <= d * (k - 1) for p, d, k in zip(padding, dilation, kernel, strict=True))
    )
    geometry = Geometry(stride, padding, dilation, transposed, (0, 0), groups)
    inputs = torch.randn(3, 1, 4, 7, 6, dtype=torch.float64)
    shape = torch.Size((4, 6 // groups, *kernel) if transposed else (6, 4 // groups, *kernel))
    weight = torch.randn(shape, dtype=torch.float64)
    outputs = torch.convolution(
        inputs[:, 0], weight, None, stride, padding, dilation, transposed, (0, 0), groups
    )
    grads = torch.randn_like(outputs).unsqueeze(1)
    book = ConvolutionBook(inputs, grads, geometry, shape)
    expected = torch.stack(
        [weight_gradient(i, g, geometry, shape) for i, g in zip(inputs, grads, strict=True)]
    )
    for found in (book.per_record(slice(None)), book.per_record_by_groups(), book.per_record_by_patches()):
        assert torch.allclose(found, expected, atol=1e-12)
    squares = expected.flatten(1).square().sum(1)
    assert torch.allclose(book.gram_of_patches(), squares, rtol=1e-10)
    assert torch.allclose(book.gram_of_patches(budget=1), squares, rtol=1e-10)
    if book.can_shift:
        assert torch.allclose(book.gram_by_shifts(), squares, rtol=1e-10)
    factors = torch.rand(3, dtype=torch.float64)
    assert torch.allclose(
        book.weighted_sum(factors), torch.einsum("b,b...->...", factors, expected), atol=1e-12
    )
    if groups == 1 and not transposed:
        found = gradient_by_offsets(inputs[:, 0], grads[:, 0], geometry, shape)
        assert torch.allclose(found, expected.sum(0), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((5,), (3,), (2,), (1,), (1,)),
        ((2, 1), (3, 3), (1, 1), (1, 1), (1, 1)),  # every second position of the kernel sees padding alone
        ((1, 1), (5, 3), (2, 3), (4, 2), (1, 2)),
        ((3, 4, 2), (3, 2, 3), (1, 2, 1), (2, 0, 1), (1, 1, 1)),
    ],
)
def test_products_with_padding_are_left_out_of_a_convolutions_gradient(
    size, kernel, stride, padding, dilation
):
    torch.manual_seed(0)
    zero = (0,) * len(size)
    geometry = Geometry(stride, padding, dilation, False, zero, 1)
    inputs, weight = torch.randn(3, 4, *size).double(), torch.randn(6, 4, *kernel).double()
    outputs = torch.convolution(inputs, weight, None, stride, padding, dilation, False, zero, 1)
    grads, shape = torch.randn_like(outputs), weight.shape
    expected = weight_gradient(inputs, grads, geometry, shape)
    assert torch.allclose(gradient_by_offsets(inputs, grads, geometry, shape), expected, atol=1e-12)


LAYERS = {
    "linear": lambda: nn.Linear(6, 6), "norm": lambda: nn.LayerNorm(6), "rms": lambda: nn.RMSNorm(6),
    "tanh": nn.Tanh, "attention": lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True),
    "conv": lambda: nn.Conv1d(4, 4, 3, padding=1, groups=2, padding_mode="circular"),
    "instance": lambda: nn.InstanceNorm1d(4, affine=True), "group": lambda: nn.GroupNorm(2, 4),
    "frozen": lambda: nn.Linear(6, 6).requires_grad_(False), "prelu": lambda: nn.PReLU(4),
}  # fmt: skip


@hypothesis.given(
    parts=st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=5), reuse=st.booleans(),
    batch=st.integers(1, 6), mode=st.sampled_from(MODES[1:]), seed=st.integers(0, 99),
)  # fmt: skip
@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
def test_random_architectures(parts, reuse, batch, mode, seed):
    torch.manual_seed(seed)
    layers = [LAYERS[part]() for part in parts]
    layers = [nn.Linear(6, 6), *layers, *(layers[:2] if reuse else []), nn.Linear(6, 2)]
    model = nn.Sequential(*layers).double()
    inputs, targets = torch.randn(batch, 4, 6, dtype=torch.float64), torch.rand(batch, dtype=torch.float64)
    expected, norms, _ = brute_force(model, inputs, targets, smooth_loss, 0.5)
    found = clipped_gradients(model, inputs, targets, smooth_loss, clip_norm=0.5, clipping=mode)
    assert torch.allclose(found.norms, norms, rtol=1e-10, atol=1e-12)
    assert relative_error(found.sums, expected) < 1e-10


IMAGE_LAYERS = {
    "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "depthwise": lambda: nn.Conv2d(4, 4, 3, padding="same", groups=4, padding_mode="reflect"),
    "strided": lambda: nn.Conv2d(4, 4, 2, stride=2, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2),
    "group norm": lambda: nn.GroupNorm(2, 4), "instance norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "pool": lambda: nn.AvgPool2d(3, 1, 1), "tanh": nn.Tanh, "dropped": lambda: nn.Dropout(0.0),
}  # fmt: skip


@hypothesis.given(
    parts=st.lists(st.sampled_from(sorted(IMAGE_LAYERS)), min_size=1, max_size=5), tied=st.booleans(),
    batch=st.integers(1, 5), mode=st.sampled_from(MODES[1:]), grouping=st.sampled_from(["flat", "per_layer"]),
    seed=st.integers(0, 99),
)  # fmt: skip
@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
def test_random_image_architectures(parts, tied, batch, mode, grouping, seed):
    hypothesis.assume(parts.count("strided") <= 1 and parts.count("transposed") <= 1)
    torch.manual_seed(seed)
    layers = [IMAGE_LAYERS[part]() for part in parts]
    first, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
    model = nn.Sequential(first, *layers, last, *([nn.Tanh(), last] if tied else []), nn.Flatten()).double()
    inputs, targets = torch.randn(batch, 3, 8, 8, dtype=torch.float64), torch.rand(batch, dtype=torch.float64)
    oracle = clipped_gradients(
        model, inputs, targets, smooth_loss, clip_norm=0.5, clipping="per_sample", groups=grouping
    )
    _, norms, _ = brute_force(model, inputs, targets, smooth_loss, 0.5)
    found = clipped_gradients(
        model, inputs, targets, smooth_loss, clip_norm=0.5, clipping=mode, groups=grouping
    )
    assert torch.allclose(found.norms, norms, rtol=1e-10, atol=1e-12)
    assert torch.allclose(oracle.norms, norms, rtol=1e-10, atol=1e-12)
    assert relative_error(found.sums, oracle.sums) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(3, 2, 4, 5), (2, 7, 1100, 3), (2, 131, 9, 8), (1, 300, 5, 1), (4, 16, 6, 6)]
)
def test_gram_kernel_equals_gram_blocks(shape, dtype):
    batch, length, wide, high = shape
    torch.manual_seed(0)
    inputs, grads = (
        torch.randn(batch, length, wide, dtype=dtype),
        torch.randn(batch, length, high, dtype=dtype),
    )
    strided = inputs.transpose(1, 2).contiguous().transpose(1, 2)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    blocks = gram_squared_norms(strided, grads)
    assert torch.allclose(gram_squared_norms(inputs, grads), blocks, rtol=tolerance)


def test_kernels_share_records_among_threads():
    torch.manual_seed(0)
    inputs, grads = torch.randn(5, 64, 700), torch.randn(5, 64, 900)
    alone, threads = gram_squared_norms(inputs, grads), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(gram_squared_norms(inputs, grads), alone)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_kernels_let_no_infinity_vanish(bad):
    inputs, grads = torch.randn(3, 6, 5), torch.randn(3, 6, 4)
    grads[1, 4, 2] = bad
    assert torch.isfinite(gram_squared_norms(inputs, grads)).tolist() == [True, False, True]


def test_memory_is_given_where_it_saves_most_time():
    layers = {
        "a": [Candidate("small", 10.0, 1), Candidate("large", 5.0, 11)],
        "b": [Candidate("small", 10.0, 1), Candidate("large", 9.0, 11)],
        "c": [Candidate("only", 3.0, 2)],
    }
    uses = {"a": 2, "b": 1, "c": 1}

    def routes(budget):
        return "".join(one.route[0] for one in allot(layers, uses, budget).values())

    assert routes(0) == routes(14) == "sso"  # 2 * 1 + 1 + 2 are held, ten more for each large one
    assert routes(15) == routes(24) == "slo"
    assert routes(25) == routes(34) == "lso"
    assert routes(35) == "llo"


@pytest.mark.parametrize("name", ["bilinear", "einsum", "gru cell", "embedding bag of maxima"])
def test_modules_without_rules_run_all_records_at_once(name):
    engine = engine_after_one_batch(name)
    (plan,) = engine._plans.values()
    assert set(plan.mapped.values()) == {True}


@pytest.mark.parametrize("name", ["lstm", "hidden alias of a parameter"])
def test_modules_that_cannot_be_mapped_run_record_by_record(name):
    engine = engine_after_one_batch(name)
    (plan,) = engine._plans.values()
    assert plan.modules
    assert not any(plan.mapped.values())


def test_a_masked_batch_proves_nothing_about_a_module():
    make_model, make_inputs = ZOO["hidden alias of a parameter"]
    torch.manual_seed(1)
    model, inputs, targets = make_model().double(), make_inputs(), torch.ones(5, dtype=torch.float64)
    engine = ClippingEngine(model, smooth_loss, clip_norm=0.5)
    engine(inputs, targets, torch.zeros(5, dtype=torch.bool))
    expected, _, _ = brute_force(model, inputs, targets, smooth_loss, 0.5)
    assert relative_error(engine(inputs, targets).sums, expected) < 1e-10


def engine_after_one_batch(name):
    torch.manual_seed(1)
    make_model, make_inputs = ZOO[name]
    engine = ClippingEngine(make_model().double(), smooth_loss, clip_norm=1.0)
    engine(make_inputs(), torch.ones(5, dtype=torch.float64))
    return engine


def test_routes_by_mode():
    shape = torch.Size((10, 10))
    routes = [
        Route("gram", False, lambda: torch.zeros(1), 500.0),
        Route("gram 2", False, lambda: torch.zeros(1), 400.0),
        Route("instantiate", True, lambda: torch.zeros(1, 10, 10), 300.0),
    ]
    book = LinearBook(torch.zeros(1, 8, 10), torch.zeros(1, 8, 10))

    def chosen(mode, positions, budget=2**30):
        chooser = RouteChooser(mode, budget, measure=False)
        return chooser.choose("w", (), book, lambda _: routes, shape, 1, positions).name

    assert chosen("ghost", 8) == chosen("bk", 8) == "gram 2"
    for mode in ("mixed_ghost", "bk_mix_ghost"):
        assert chosen(mode, 7) == "gram 2"  # 2 * 49 <= 100
        assert chosen(mode, 8) == "instantiate"  # 2 * 64 > 100
        assert chosen(mode, 8, budget=300) == "gram 2"


def test_choices_can_be_explained():
    model, inputs, targets = case()
    engine = ClippingEngine(model, smooth_loss, clip_norm=1.0)
    engine(inputs, targets)
    assert set(engine.choices) == {"0.weight", "3.weight"}
    assert all(isinstance(choice, LayerChoice) and choice.seconds for choice in engine.choices.values())
