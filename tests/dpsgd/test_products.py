"""Products by the fastest library, and how it is found."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpaudit.dpsgd import ClippingEngine, CompiledEngine, clipped_gradients
from dpaudit.dpsgd.clipping.choice import LayerChoice, RouteChooser
from dpaudit.dpsgd.clipping.engine import EngineMemory
from dpaudit.dpsgd.clipping.products import first_way, multiplied, onednn_linear, ways_to_multiply

from .zoo import smooth_loss

TASKS = {"outputs", "input gradient", "weight gradient"}


@pytest.mark.parametrize("rows", [(5,), (2, 3), ()])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_all_libraries_give_one_product(rows, bias, turned):
    torch.manual_seed(0)
    data, weight = torch.randn(*rows, 7), torch.randn(7, 4).t() if turned else torch.randn(4, 7)
    offset = torch.randn(4) if bias else None
    for way in ways_to_multiply(data, weight, offset).values():
        assert torch.allclose(way(), F.linear(data, weight, offset), atol=1e-5)


def test_only_plain_products_go_to_another_library():
    data, weight = torch.randn(5, 7), torch.randn(4, 7)
    only = lambda *args: list(ways_to_multiply(*args)) == ["blas"]  # noqa: E731
    assert only(data.double(), weight.double(), None)
    assert only(data.bfloat16(), weight.bfloat16(), None)
    assert only(torch.randn(5, 14)[:, ::2], weight, None)
    assert only(data[:0], weight, None)
    with torch.autocast("cpu", torch.bfloat16):
        assert only(data, weight, None)


@pytest.mark.parametrize("size", [(3, 0), (2, 0, 5), (0, 5)])
def test_nothing_is_a_product_too(size):
    data, weight = torch.randn(size), torch.randn(4, size[-1])
    assert torch.equal(multiplied(first_way, "outputs", data, weight), F.linear(data, weight))


def slow_and_quick(calls):
    def way(name, seconds):
        def compute():
            calls.append(name)
            time.sleep(seconds)
            return torch.tensor(seconds)

        return compute

    return {"slow": way("slow", 0.02), "quick": way("quick", 0.0)}


def test_the_faster_way_is_kept(monkeypatch):
    monkeypatch.setattr(time, "thread_time", time.perf_counter)  # sleeping takes no time of a thread
    chooser, calls = RouteChooser("bk_mix_opt", 2**20), []
    assert chooser.fastest(("key",), slow_and_quick(calls)) == 0
    assert calls.count("slow") > 1  # the first call, and those that were timed
    assert chooser.choices["key",].route == "quick"
    calls.clear()
    assert chooser.fastest(("key",), slow_and_quick(calls)) == 0
    assert calls == ["quick"]


def test_what_was_chosen_elsewhere_and_is_not_at_hand_is_done_the_first_way():
    chooser, calls = RouteChooser("bk_mix_opt", 2**20), []
    chooser.choices["key",] = LayerChoice("of another machine", "measured")
    chooser.fastest(("key",), slow_and_quick(calls))
    assert calls == ["slow"]


@pytest.mark.parametrize(
    "chooser", [RouteChooser("bk", 2**20), RouteChooser("bk_mix_opt", 2**20, measure=False)]
)
def test_nothing_is_timed_where_nothing_is_measured(chooser):
    calls = []
    chooser.fastest(("key",), slow_and_quick(calls))
    assert calls == ["slow"]
    assert not chooser.choices


@pytest.mark.skipif(onednn_linear() is None, reason="this build of PyTorch has no oneDNN")
@pytest.mark.parametrize("name", ["blas", "onednn"])
def test_gradients_are_the_same_by_every_library(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 300), nn.Tanh(), nn.Linear(300, 2))
    inputs, targets = torch.randn(40, 6), torch.rand(40)
    engine = ClippingEngine(model, smooth_loss, clip_norm=0.5, clipping="bk_mix_opt")
    engine(inputs, targets)
    products = [key for key in engine.chooser.choices if key[0] in TASKS]
    assert {key[0] for key in products} == TASKS
    engine.chooser.choices.update({key: LayerChoice(name, "measured") for key in products})
    found = engine(inputs, targets)
    expected = clipped_gradients(model, inputs, targets, smooth_loss, clip_norm=0.5, clipping="per_sample")
    for parameter, value in expected.sums.items():
        assert torch.allclose(found.sums[parameter], value, atol=1e-6)


@pytest.mark.skipif(onednn_linear() is None, reason="this build of PyTorch has no oneDNN")
def test_a_compiled_step_multiplies_by_what_was_measured():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 2))
    inputs, targets = torch.randn(40, 6), torch.rand(40)
    options, memory = {"clip_norm": 0.5, "clipping": "bk_mix_opt"}, EngineMemory()
    expected = ClippingEngine(model, smooth_loss, memory=memory, **options)(inputs, targets)
    products = [key for key in memory.choices if key[0] in TASKS]
    memory.choices.update({key: LayerChoice("onednn", "measured") for key in products})
    nodes = []

    def counting(graph, _):
        nodes.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    compiled = CompiledEngine(model, smooth_loss, memory=memory, backend=counting, **options)
    for _ in range(2):
        found = compiled(inputs, targets)
        for parameter, value in expected.sums.items():
            assert torch.allclose(found.sums[parameter], value, atol=1e-6)
    assert sum("dpaudit.product" in node for node in nodes) == len(products) == 5
