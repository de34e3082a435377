"""Batches and models at the edge: defined behaviour, or a refusal that names the culprit."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

from dpaudit.dpsgd import UnsupportedModelError, clipped_gradients

from .zoo import MODES, Wrap, brute_force, parameter, relative_error, smooth_loss

BOOKING = MODES[1:]


def cross_entropy(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).double()


def small_batch(records=6):
    torch.manual_seed(2)
    return torch.randn(records, 4, dtype=torch.float64), torch.randint(3, (records,))


@pytest.mark.parametrize("mode", MODES)
def test_empty_batch_gives_zeros(mode):
    model, (inputs, targets) = small_model(), small_batch()
    found = clipped_gradients(model, inputs[:0], targets[:0], cross_entropy, clip_norm=1.0, clipping=mode)
    assert found.norms.shape == found.losses.shape == found.refused.shape == (0,)
    for name, weight in model.named_parameters():
        assert torch.equal(found.sums[name], torch.zeros_like(weight))


@pytest.mark.parametrize("mode", MODES)
def test_batch_of_one(mode):
    model, (inputs, targets) = small_model(), small_batch(1)
    expected, norms, _ = brute_force(model, inputs, targets, cross_entropy, 0.1)
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=0.1, clipping=mode)
    assert torch.allclose(found.norms, norms, rtol=1e-12)
    assert relative_error(found.sums, expected) < 1e-12
    assert math.isclose(sum(float(s.square().sum()) for s in found.sums.values()) ** 0.5, 0.1, rel_tol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("garbage", [0.0, math.nan, math.inf, 1e300])
def test_masked_records_count_for_nothing(mode, garbage):
    model, (inputs, targets) = small_model(), small_batch()
    mask = torch.tensor([True, False, True, True, False, False])
    expected, norms, losses = brute_force(model, inputs[mask], targets[mask], cross_entropy, 0.3)
    inputs = inputs.clone()
    inputs[~mask] = garbage
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=0.3, clipping=mode, mask=mask)
    assert relative_error(found.sums, expected) < 1e-10
    assert torch.allclose(found.norms[mask], norms)
    assert torch.allclose(found.losses[mask], losses)
    assert not found.norms[~mask].any()
    assert not found.losses[~mask].any()
    assert not found.refused.any()


@pytest.mark.parametrize("mode", MODES)
def test_all_masked(mode):
    model, (inputs, targets) = small_model(), small_batch()
    mask = torch.zeros(6, dtype=torch.bool)
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=1.0, clipping=mode, mask=mask)
    assert all(not s.any() for s in found.sums.values())
    assert not found.factors.any()
    assert not found.norms.any()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_poisoned_record_adds_exactly_nothing(mode, poison):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.Tanh(),
        nn.Flatten(2),
        nn.Linear(25, 3),
        nn.Flatten(),
    ).double()
    inputs, targets = torch.randn(5, 2, 5, 5, dtype=torch.float64), torch.randint(3, (5,))
    keep = torch.tensor([True, True, False, True, True])
    expected, norms, _ = brute_force(model, inputs[keep], targets[keep], cross_entropy, 0.3)
    inputs[2, 0, 1, 1] = poison
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=0.3, clipping=mode)
    assert found.refused.tolist() == [False, False, True, False, False]
    assert relative_error(found.sums, expected) < 1e-10
    assert torch.allclose(found.norms[keep], norms)
    with pytest.raises(ValueError, match="record 2 of the batch is not finite"):
        clipped_gradients(
            model, inputs, targets, cross_entropy, clip_norm=0.3, clipping=mode, nonfinite="raise"
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", [nn.Flatten(), nn.Linear(4, 3).requires_grad_(False)])
def test_nothing_to_train(mode, model):
    inputs, targets = torch.randn(6, 4), torch.randint(3, (6,))
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=1.0, clipping=mode)
    assert found.sums == {}
    assert torch.equal(found.norms, torch.zeros(6))
    assert torch.allclose(found.losses, cross_entropy(model(inputs), targets))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reduced_loss_is_refused(mode, reduction):
    model, (inputs, targets) = small_model(), small_batch()
    with pytest.raises(ValueError, match=r"one value per record, shape .* use reduction='none'"):
        clipped_gradients(
            model,
            inputs,
            targets,
            lambda o, t: F.cross_entropy(o, t, reduction=reduction),
            clip_norm=1.0,
            clipping=mode,
        )


@pytest.mark.parametrize("mode", BOOKING)
def test_loss_divided_by_the_batch_size_is_refused(mode):
    model, (inputs, targets) = small_model(), small_batch()
    with pytest.raises(UnsupportedModelError, match="depends on the other records"):
        clipped_gradients(
            model, inputs, targets, lambda o, t: cross_entropy(o, t) / len(t), clip_norm=1.0, clipping=mode
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("layer", "word"),
    [
        (nn.BatchNorm1d(6), "normalises over the batch"),
        (nn.SyncBatchNorm(6), "normalises over the batch"),
        (nn.InstanceNorm1d(6, affine=True, track_running_stats=True), "running statistics"),
    ],
)
def test_layers_that_mix_records_are_refused_by_name(mode, layer, word):
    model = nn.Sequential(nn.Linear(4, 6), layer)
    with pytest.raises(UnsupportedModelError, match=f"layer '1'.*{word}") as caught:
        clipped_gradients(model, torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode)
    assert caught.value.hint


def test_batch_norm_in_evaluation_mode_is_exact():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).double()
    with torch.no_grad():
        model(torch.randn(64, 4, dtype=torch.float64))
    model.eval()
    inputs, targets = torch.randn(5, 4, dtype=torch.float64), torch.ones(5)
    expected, norms, _ = brute_force(model, inputs, targets, smooth_loss, 2.0)
    for mode in MODES:
        found = clipped_gradients(model, inputs, targets, smooth_loss, clip_norm=2.0, clipping=mode)
        assert torch.allclose(found.norms, norms)
        assert relative_error(found.sums, expected) < 1e-10


MIXERS = {
    "batch mean": lambda m, x: m.a(x) - m.a(x).mean(0, keepdim=True),
    "batch mean of the weight's input": lambda m, x: m.a(x - x.mean(0)),
    "softmax over the batch": lambda m, x: m.a(x).softmax(0),
    "attention over the batch": lambda m, x: m.a((x @ x.t()).softmax(1) @ x),
    "sum over the batch before the layer": lambda m, x: x @ m.a.weight.t() + m.a(x.sum(0, keepdim=True)),
    "roll": lambda m, x: m.a(x.roll(1, 0)),
    "sum of the records before": lambda m, x: m.a(x).cumsum(0),
    "sum of the records after": lambda m, x: m.a(x.flip(0).cumsum(0).flip(0)),
    "product with the record before": lambda m, x: torch.cat([m.a(x)[:1], m.a(x)[1:] * x[:-1, :3]]),
    "sorted": lambda m, x: m.a(x.sort(0)[0]),
}


@pytest.mark.parametrize("mode", BOOKING)
@pytest.mark.parametrize("name", MIXERS)
def test_functions_that_mix_records_are_refused(mode, name):
    torch.manual_seed(0)
    model = Wrap(MIXERS[name], a=nn.Linear(4, 3))
    with pytest.raises(UnsupportedModelError):
        clipped_gradients(model, torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode)


@pytest.mark.parametrize("mode", BOOKING)
def test_embedding_options_that_mix_records_are_refused(mode):
    for options in ({"max_norm": 1.0}, {"scale_grad_by_freq": True}):
        model = nn.Sequential(nn.Embedding(7, 4, **options), nn.Linear(4, 2))
        with pytest.raises(UnsupportedModelError, match=r"embedding of parameter 0.weight is not supported"):
            clipped_gradients(
                model, torch.randint(7, (5, 3)), torch.ones(5), smooth_loss, clip_norm=1.0, clipping=mode
            )


@pytest.mark.parametrize("mode", BOOKING)
def test_embedding_bag_options_that_mix_records_are_refused(mode):
    for options in ({"max_norm": 1.0}, {"scale_grad_by_freq": True, "mode": "sum"}):
        model = nn.Sequential(nn.EmbeddingBag(7, 4, **options), nn.Linear(4, 2))
        with pytest.raises(
            UnsupportedModelError, match=r"embedding_bag of parameter 0.weight is not supported"
        ):
            clipped_gradients(
                model, torch.randint(7, (5, 3)), torch.ones(5), smooth_loss, clip_norm=1.0, clipping=mode
            )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tokens", [5, 9])
def test_ragged_bags_are_refused_with_the_way_out(mode, tokens):
    model = Wrap(lambda m, lengths, x: m.a(x, lengths.cumsum(0) - lengths), a=nn.EmbeddingBag(7, 4))
    lengths = torch.tensor([1, 1, 1, 1, tokens - 4])
    inputs = (lengths, torch.randint(7, (tokens,)))
    with pytest.raises(UnsupportedModelError, match="ragged bags") as caught:
        clipped_gradients(model, inputs, torch.ones(5), smooth_loss, clip_norm=1.0, clipping=mode)
    assert "padding_idx" in caught.value.hint


@pytest.mark.parametrize("mode", BOOKING)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_dropout_is_refused_by_name_in_training_alone(mode, kind):
    torch.manual_seed(0)
    layer = kind(4, 3, num_layers=2, dropout=0.5, batch_first=True)
    model = Wrap(lambda m, x: m.layer(x)[0], layer=layer).double()
    inputs, targets = torch.randn(4, 3, 4, dtype=torch.float64), torch.ones(4)
    with pytest.raises(
        UnsupportedModelError, match="module 'layer' has no rule, and it draws random numbers"
    ):
        clipped_gradients(model, inputs, targets, smooth_loss, clip_norm=1.0, clipping=mode)
    model.eval()
    expected, norms, _ = brute_force(model, inputs, targets, smooth_loss, 0.3)
    found = clipped_gradients(model, inputs, targets, smooth_loss, clip_norm=0.3, clipping=mode)
    assert torch.allclose(found.norms, norms)
    assert relative_error(found.sums, expected) < 1e-10


@pytest.mark.parametrize("mode", BOOKING)
def test_parameter_hidden_from_view_is_refused_by_name(mode):
    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 3))

        def forward(self, x):
            return self.b(self.a(x))

    with pytest.raises(UnsupportedModelError, match=r"parameter 'b.weight'"):
        clipped_gradients(
            Scripted(), torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode
        )


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x * w

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return grad * w, (grad * x).sum(0)


@pytest.mark.parametrize("mode", BOOKING)
def test_custom_function_is_refused_by_name(mode):
    model = nn.Sequential(nn.Linear(4, 4), Wrap(lambda m, x: Square.apply(x, m.w), w=parameter(4)))
    with pytest.raises(UnsupportedModelError, match=r"parameter '1.w'"):
        clipped_gradients(model, torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("mode", BOOKING)
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_checkpointed_code_is_refused(mode, reentrant):
    def run(m, x):
        return torch.utils.checkpoint.checkpoint(m.a, m.b(x), use_reentrant=reentrant)

    model = Wrap(run, a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    with pytest.raises(UnsupportedModelError, match=r"recomputed|parameter 'a.weight'"):
        clipped_gradients(model, torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode)


@pytest.mark.parametrize("mode", MODES)
def test_complex_parameters_are_refused(mode):
    model = Wrap(lambda m, x: (x * m.w).abs(), w=nn.Parameter(torch.randn(4, dtype=torch.complex64)))
    with pytest.raises(UnsupportedModelError, match=r"parameter 'w' is of torch\.complex64"):
        clipped_gradients(model, torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode)


@pytest.mark.parametrize("mode", BOOKING)
def test_random_module_without_rule_is_refused_by_name(mode):
    part = Wrap(lambda m, x: F.dropout(torch.einsum("bd,de->be", x, m.w), 0.5), w=parameter(4, 3))
    with pytest.raises(UnsupportedModelError, match="module '1' has no rule, and it draws random numbers"):
        clipped_gradients(
            nn.Sequential(nn.Linear(4, 4), part),
            torch.randn(6, 4),
            torch.ones(6),
            smooth_loss,
            clip_norm=1.0,
            clipping=mode,
        )


@pytest.mark.parametrize("mode", BOOKING)
def test_dropout_keeps_the_masks_of_the_forward_pass(mode):
    model = nn.Sequential(
        nn.Linear(4, 16), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)
    ).double()
    inputs, targets = small_batch()
    torch.manual_seed(7)
    losses = cross_entropy(model(inputs), targets)
    plain = torch.autograd.grad(losses.sum(), list(model.parameters()))
    torch.manual_seed(7)
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=1e6, clipping=mode)
    assert torch.allclose(found.losses, losses)
    for gradient, name in zip(plain, found.sums, strict=True):
        assert torch.allclose(found.sums[name], gradient)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_and_buffers_of_the_user_are_left_alone(mode):
    model, (inputs, targets) = small_model(), small_batch()
    model.register_buffer("calls", torch.zeros(()))
    kept = [torch.randn_like(weight) for weight in model.parameters()]
    for weight, gradient in zip(model.parameters(), kept, strict=True):
        weight.grad = gradient
    clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=1.0, clipping=mode)
    assert all(weight.grad is gradient for weight, gradient in zip(model.parameters(), kept, strict=True))
    assert "forward" not in vars(model[0])
    assert not model[0]._forward_hooks


@pytest.mark.parametrize("mode", MODES)
def test_modules_under_two_names_keep_their_parameters(mode):
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    before = list(model.parameters())
    clipped_gradients(model, torch.randn(6, 4), torch.ones(6), smooth_loss, clip_norm=1.0, clipping=mode)
    assert shared.weight is before[0]
    assert shared.bias is before[1]


def test_switching_a_model_is_seen():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, targets = small_batch()
    clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=1.0)
    model[0].weight.requires_grad_(False)
    expected, _, _ = brute_force(model, inputs, targets, cross_entropy, 0.3)
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=0.3)
    assert found.sums.keys() == expected.keys()
    assert relative_error(found.sums, expected) < 1e-12
    model[2] = nn.Linear(6, 3).double()
    expected, _, _ = brute_force(model, inputs, targets, cross_entropy, 0.3)
    found = clipped_gradients(model, inputs, targets, cross_entropy, clip_norm=0.3)
    assert relative_error(found.sums, expected) < 1e-12


def test_another_layout_of_the_batch_is_seen():
    torch.manual_seed(0)
    model = Wrap(
        lambda m, x: m.a(x if x.dim() == 2 else x.transpose(0, 1)).reshape(-1, len(x), 3).sum(0),
        a=nn.Linear(4, 3),
    )
    model = model.double()
    for shape in ((6, 4), (6, 6, 4), (6, 4), (6, 5, 4)):
        inputs = torch.randn(shape, dtype=torch.float64)
        expected, norms, _ = brute_force(model, inputs, torch.ones(6), smooth_loss, 1.0)
        found = clipped_gradients(model, inputs, torch.ones(6), smooth_loss, clip_norm=1.0)
        assert torch.allclose(found.norms, norms)
        assert relative_error(found.sums, expected) < 1e-10


@pytest.mark.parametrize("mode", BOOKING)
def test_masked_garbage_is_not_probed(mode):
    torch.manual_seed(0)
    model = Wrap(lambda m, x: m.a(x.reshape(-1, 4)).view(len(x), -1), a=nn.Linear(4, 3)).double()
    inputs, targets = torch.randn(6, 2, 4, dtype=torch.float64), torch.ones(6, dtype=torch.float64)
    inputs[:4] = 0.0
    mask = torch.tensor([False] * 4 + [True] * 2)
    expected, _, _ = brute_force(model, inputs[4:], targets[4:], smooth_loss, 1.0)
    found = clipped_gradients(model, inputs, targets, smooth_loss, clip_norm=1.0, clipping=mode, mask=mask)
    assert relative_error(found.sums, expected) < 1e-10


def test_changing_depth_and_length_are_seen():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.depth, self.a = 1, nn.Linear(4, 4)

        def forward(self, x):
            for _ in range(self.depth):
                x = torch.tanh(self.a(x))
            return x

    torch.manual_seed(0)
    model = Deep().double()
    for depth, length in ((1, 3), (3, 5), (2, 6), (1, 6)):
        model.depth = depth
        inputs = torch.randn(6, length, 4, dtype=torch.float64)
        expected, norms, _ = brute_force(model, inputs, torch.ones(6), smooth_loss, 1.0)
        found = clipped_gradients(model, inputs, torch.ones(6), smooth_loss, clip_norm=1.0)
        assert torch.allclose(found.norms, norms)
        assert relative_error(found.sums, expected) < 1e-10


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ({"clip_norm": math.nan}, "clip_norm must be positive"),
        ({"clip_norm": 1.0, "clipping": "fast"}, "clipping must be one of"),
        ({"clip_norm": 1.0, "mask": torch.ones(5)}, r"mask must have shape \(6,\)"),
        ({"clip_norm": 1.0, "groups": {"0.weight": "a"}}, "is in no clipping group"),
        ({"clip_norm": {"a": 1.0}}, "has no clip norm"),
        ({"clip_norm": 1.0, "clip_function": "hard"}, "clip_function must be"),
        ({"clip_norm": 1.0, "clip_function": lambda n, c: torch.ones_like(n) * 1e3}, "beyond clip_norm"),
        ({"clip_norm": 1.0, "nonfinite": "ignore"}, "nonfinite must be"),
    ],
)
def test_wrong_arguments(options, word):
    model, (inputs, targets) = small_model(), small_batch()
    with pytest.raises(ValueError, match=word):
        clipped_gradients(model, inputs, targets, cross_entropy, **options)
