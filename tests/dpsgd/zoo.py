# ruff: noqa: E501
"""Small models that use every supported layer and option, and the brute force they are compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

MODES = ("per_sample", "ghost", "mixed_ghost", "bk", "bk_mix_ghost", "bk_mix_opt")


def smooth_loss(outputs: Any, targets: Any) -> Tensor:
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    flat = outputs.reshape(len(outputs), -1)
    ramp = torch.linspace(0.3, 1.7, flat.shape[1], dtype=flat.dtype)
    return (flat.sin() * ramp).sum(1) + (flat**2).mean(1) * targets


def brute_force(model, inputs, targets, loss, clip_norm, weights=None):
    """One backward pass for each record."""
    batch = len(targets)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    sums = {n: torch.zeros_like(p) for n, p in parameters.items()}
    norms, losses = [], []
    for i in range(batch):
        own = _record(inputs, batch, i)
        outputs = (
            model(**own) if isinstance(own, dict) else model(*own) if isinstance(own, tuple) else model(own)
        )
        value = loss(outputs, targets[i : i + 1])
        losses.append(value.detach()[0])
        grads = torch.autograd.grad(value.sum(), list(parameters.values()), allow_unused=True)
        grads = [
            torch.zeros_like(p) if g is None else g for p, g in zip(parameters.values(), grads, strict=True)
        ]
        norm = torch.cat([g.flatten() for g in grads]).norm()
        norms.append(norm)
        factor = min(1.0, clip_norm / float(norm)) if norm > 0 else 1.0
        for name, grad in zip(parameters, grads, strict=True):
            sums[name] += factor * grad
    return sums, torch.stack(norms), torch.stack(losses)


def _record(inputs, batch, i):
    if isinstance(inputs, dict):
        return {k: _record(v, batch, i) for k, v in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_record(v, batch, i) for v in inputs)
    return inputs[i : i + 1] if len(inputs) == batch else inputs


def relative_error(found, expected) -> float:
    gap = sum(float((found[n] - expected[n]).square().sum()) for n in expected)
    size = sum(float(expected[n].square().sum()) for n in expected)
    return (gap / size) ** 0.5


class Wrap(nn.Module):
    """A model made of a function and the modules and parameters that it needs."""

    def __init__(self, run: Callable[..., Tensor], **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self.run(self, *args, **kwargs)


def images(*shape):
    return lambda: torch.randn(5, *shape, dtype=torch.float64)


def tokens(length=6, rows=11):
    return lambda: torch.randint(rows, (5, length))


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def _tied():
    table = nn.Embedding(11, 6)
    head = nn.Linear(6, 11, bias=False)
    head.weight = table.weight
    return nn.Sequential(table, nn.Linear(6, 6), nn.Tanh(), head)


def _reused():
    return Wrap(lambda m, x: m.b(m.a(torch.tanh(m.a(x))) + m.a(x * 2)), a=nn.Linear(6, 6), b=nn.Linear(6, 2))


def _named_twice():
    shared = nn.Linear(6, 6)
    return nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(6, 2))


def _named_twice_without_rule():
    shared = Wrap(lambda m, x: torch.einsum("bd,de->be", x, m.weight), weight=parameter(6, 6))
    inner = nn.Sequential(shared, nn.Tanh(), shared)
    return Wrap(lambda m, x: m.inner(x), inner=inner)


def _reused_conv():
    return Wrap(lambda m, x: m.a(torch.tanh(m.a(x))), a=nn.Conv2d(3, 3, 3, padding=1))


def _frozen():
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3), nn.LayerNorm(3))
    model[0].weight.requires_grad_(False)
    model[2].bias.requires_grad_(False)
    return model


def _lora():
    frozen = nn.Linear(6, 6).requires_grad_(False)
    run = lambda m, x: m.base(x) + 0.5 * m.up(m.down(x))  # noqa: E731
    return Wrap(run, base=frozen, down=nn.Linear(6, 2, bias=False), up=nn.Linear(2, 6, bias=False))


def _merged_lora():
    run = lambda m, x: F.linear(x, m.base + m.up @ m.down)  # noqa: E731
    base = nn.Parameter(torch.randn(6, 6), requires_grad=False)
    return Wrap(run, base=base, down=parameter(2, 6), up=parameter(6, 2))


def _transformer_layer(batch_first):
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=batch_first)
    if batch_first:
        return layer
    return Wrap(lambda m, x: m.layer(x.transpose(0, 1)).transpose(0, 1), layer=layer)


def _attention(batch_first, **options):
    layer = nn.MultiheadAttention(8, 2, batch_first=batch_first, **options)
    if batch_first:
        return Wrap(lambda m, x: m.layer(x, x, x, need_weights=False)[0], layer=layer)
    return Wrap(
        lambda m, x: m.layer(x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1))[0].transpose(0, 1),
        layer=layer,
    )


def _cross_attention():
    run = lambda m, x: m.layer(x[:, :2], x[:, 2:, :5], x[:, 2:, 3:])[0]  # noqa: E731
    return Wrap(run, layer=nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True))


def _class_token():
    def run(m, x):
        x = torch.cat([m.token.expand(len(x), -1, -1), m.patch(x)], 1) + m.position
        return m.head(torch.tanh(x)[:, 0] * m.scale)

    return Wrap(
        run, token=parameter(1, 1, 6), position=parameter(1, 5, 6), scale=parameter(6),
        patch=nn.Linear(3, 6), head=nn.Linear(6, 2),
    )  # fmt: skip


def _repeated_token():
    def run(m, x):
        return m.head(torch.cat([m.token.repeat(len(x), 1, 1), x], 1) + m.position[:, : x.shape[1] + 1])

    return Wrap(run, token=parameter(1, 1, 3), position=parameter(1, 9, 3), head=nn.Linear(3, 2))


def _positions(table_rows, broadcast):
    def run(m, x):
        ids = torch.arange(x.shape[1])
        ids = ids.unsqueeze(0) if broadcast else ids.expand(len(x), -1)
        return m.head(m.words(x) + m.places(ids))

    return Wrap(run, words=nn.Embedding(11, 4), places=nn.Embedding(table_rows, 4), head=nn.Linear(4, 3))


def _padded_positions():
    run = lambda m, x: m.words(x) + F.embedding(torch.arange(6), m.places, padding_idx=2)  # noqa: E731
    return Wrap(run, words=nn.Embedding(11, 4), places=parameter(7, 4))


def _repeated_positions():
    run = lambda m, x: m.words(x) + F.embedding(torch.tensor([0, 1, 1, 0, 2, 2]), m.places)  # noqa: E731
    return Wrap(run, words=nn.Embedding(11, 4), places=parameter(7, 4))


def _dropped_weights():
    mask = (torch.rand(6, 6) > 0.5).double()
    return Wrap(lambda m, x: F.linear(x, m.weight * mask) + m.a(x), weight=parameter(6, 6), a=nn.Linear(6, 6))


def _conv1d_of_transformers():
    run = lambda m, x: torch.addmm(m.bias, x.view(-1, x.size(-1)), m.weight).view(*x.shape[:-1], 5)  # noqa: E731
    return Wrap(run, weight=parameter(6, 5), bias=parameter(5))


def _chunked_weight():
    def run(m, x):
        q, k, v = m.weight.chunk(3)
        return F.linear(torch.tanh(F.linear(x, q)), k) * F.linear(x, v)

    return Wrap(run, weight=parameter(18, 6))


def _overlapping_slices():
    return Wrap(lambda m, x: F.linear(x, m.weight[:4]) * F.linear(x, m.weight[2:]), weight=parameter(6, 6))


def _prefix():
    def run(m, x):
        return m.head(torch.tanh(torch.cat([m.net(m.prefix).expand(len(x), -1, -1), x], 1)))

    return Wrap(
        run, prefix=parameter(1, 2, 6), net=nn.Sequential(nn.Linear(6, 6), nn.Tanh()), head=nn.Linear(6, 2)
    )


def _folded(record_major):
    def run(m, x):
        if record_major:
            return m.b(torch.tanh(m.a(x.reshape(-1, 6)))).view(len(x), -1, 2)
        y = x.transpose(0, 1)
        return m.b(torch.tanh(m.a(y.reshape(-1, 6)))).view(y.shape[0], y.shape[1], 2).transpose(0, 1)

    return Wrap(run, a=nn.Linear(6, 6), b=nn.Linear(6, 2))


def _frames():
    def run(m, x):
        return m.norm(m.conv(x.flatten(0, 1))).view(len(x), -1)

    return Wrap(run, conv=nn.Conv2d(3, 4, 3), norm=nn.GroupNorm(2, 4))


def _recurrent(kind, **options):
    return Wrap(
        lambda m, x: m.head(m.layer(x)[0]),
        layer=kind(6, 5, batch_first=True, **options),
        head=nn.Linear(5, 2),
    )


def _recurrent_cell():
    def run(m, x):
        hidden = x.new_zeros(len(x), 5)
        for t in range(x.shape[1]):
            hidden = m.cell(x[:, t], hidden)
        return hidden

    return Wrap(run, cell=nn.GRUCell(6, 5))


def _sequence_first_recurrent():
    return Wrap(
        lambda m, x: m.layer(x.transpose(0, 1))[1][0].transpose(0, 1), layer=nn.LSTM(6, 5, num_layers=2)
    )


def _einsum():
    part = Wrap(lambda m, x: torch.einsum("btd,dhe->bthe", x, m.weight), weight=parameter(6, 2, 3))
    return nn.Sequential(nn.Linear(6, 6), part, nn.Tanh(), nn.Flatten(2), nn.Linear(6, 2))


def _weighted_bag():
    run = lambda m, x: m.a(x, per_sample_weights=(x + 1).to(m.a.weight) / 7)  # noqa: E731
    return Wrap(run, a=nn.EmbeddingBag(11, 4, mode="sum"))


def _hidden_alias():
    """A module that keeps its weight a second time, where functional calls do not replace it."""
    part = Wrap(lambda m, x: torch.einsum("bd,de->be", x, m.kept[0]), weight=parameter(6, 3))
    part.kept = [part.weight]
    return nn.Sequential(nn.Linear(6, 6), part)


class _VisionLayer(nn.Module):
    """Written as in timm: one joint projection, layer scales as bare parameters."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 8)
        self.gamma1, self.gamma2 = parameter(8), parameter(8)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d)
        x = x + self.proj(mixed) * self.gamma1
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)))).mul(self.gamma2)


def _vision_transformer():
    def run(m, x):
        x = m.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((m.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + m.pos_embed
        return m.head(m.norm(m.layers(x))[:, 0])

    return Wrap(
        run, cls_token=parameter(1, 1, 8), pos_embed=parameter(1, 5, 8), patch=nn.Conv2d(3, 8, 4, 4),
        layers=nn.Sequential(_VisionLayer(), _VisionLayer()), norm=nn.LayerNorm(8), head=nn.Linear(8, 3),
    )  # fmt: skip


def _loss_parameter():
    return Wrap(lambda m, x: m.a(x) + m.a.weight.square().sum() * 0.1, a=nn.Linear(6, 2))


def _convolution(kind, *args, size, **options):
    dims = {nn.Conv1d: 1, nn.ConvTranspose1d: 1, nn.Conv2d: 2, nn.ConvTranspose2d: 2}.get(kind, 3)
    return lambda: nn.Sequential(kind(*args, **options), nn.Tanh()), images(args[0], *(size,) * dims)


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "linear": (lambda: nn.Linear(6, 3), images(6)),
    "linear without bias": (lambda: nn.Linear(6, 3, bias=False), images(6)),
    "linear on three dimensions": (lambda: nn.Linear(6, 3), images(4, 6)),
    "linear on four dimensions": (lambda: nn.Linear(6, 3), images(2, 4, 6)),
    "linear as long as the batch": (lambda: nn.Linear(5, 5), images(5, 5)),
    "linear over more than one block": (lambda: nn.Linear(3, 2), images(300, 3)),
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 3)), images(6)),
    "bilinear": (lambda: Wrap(lambda m, x: m.a(x, x * x), a=nn.Bilinear(6, 6, 3)), images(6)),
    "conv1d": _convolution(nn.Conv1d, 3, 4, 3, size=9, stride=2, padding=1),
    "conv2d": _convolution(nn.Conv2d, 3, 4, 3, size=7, padding=1),
    "conv2d without bias": _convolution(nn.Conv2d, 3, 4, 3, size=7, bias=False),
    "conv2d strided": _convolution(nn.Conv2d, 3, 4, 3, size=8, stride=2, padding=1),
    "conv2d uneven": _convolution(nn.Conv2d, 3, 4, (3, 2), size=8, stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
    "conv2d dilated": _convolution(nn.Conv2d, 3, 4, 3, size=9, dilation=2, padding=2),
    "conv2d grouped": _convolution(nn.Conv2d, 4, 6, 3, size=7, groups=2, padding=1),
    "conv2d depthwise": _convolution(nn.Conv2d, 4, 8, 3, size=7, groups=4),
    "conv2d one by one": _convolution(nn.Conv2d, 3, 5, 1, size=6),
    "conv2d patches": _convolution(nn.Conv2d, 3, 5, 4, size=8, stride=4),
    "conv2d same": _convolution(nn.Conv2d, 3, 4, 3, size=7, padding="same"),
    "conv2d same even": _convolution(nn.Conv2d, 3, 4, (4, 2), size=7, padding="same"),
    "conv2d valid": _convolution(nn.Conv2d, 3, 4, 3, size=7, padding="valid"),
    "conv2d reflect": _convolution(nn.Conv2d, 3, 4, 3, size=7, padding=1, padding_mode="reflect"),
    "conv2d replicate": _convolution(nn.Conv2d, 3, 4, 3, size=7, padding=1, padding_mode="replicate"),
    "conv2d circular same": _convolution(nn.Conv2d, 3, 4, 3, size=7, padding="same", padding_mode="circular"),
    "conv3d": _convolution(nn.Conv3d, 2, 3, 2, size=5, padding=1, stride=2),
    "conv3d grouped": _convolution(nn.Conv3d, 2, 4, 2, size=4, groups=2),
    "conv1d transposed": _convolution(nn.ConvTranspose1d, 3, 4, 3, size=5, stride=2, output_padding=1),
    "conv2d transposed": _convolution(nn.ConvTranspose2d, 3, 4, 3, size=5, stride=2, padding=1, output_padding=1),
    "conv2d transposed grouped": _convolution(nn.ConvTranspose2d, 4, 6, 3, size=4, groups=2, dilation=2),
    "conv3d transposed": _convolution(nn.ConvTranspose3d, 2, 3, 2, size=3, stride=2),
    "conv stack": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3),
        ),
        images(3, 8, 8),
    ),
    "frames of a video": (_frames, images(2, 3, 5, 5)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(11, 4), nn.Linear(4, 2)), tokens()),
    "embedding of repeated tokens": (lambda: nn.Embedding(3, 4), tokens(9, 3)),
    "embedding with padding": (lambda: nn.Embedding(4, 4, padding_idx=1), tokens(9, 4)),
    "embedding with negative padding": (lambda: nn.Embedding(4, 4, padding_idx=-1), tokens(9, 4)),
    "embedding of single tokens": (lambda: nn.Embedding(4, 4), lambda: torch.randint(4, (5,))),
    "embedding bag": (lambda: nn.EmbeddingBag(11, 4, mode="mean"), tokens()),
    "embedding bag of sums": (lambda: nn.EmbeddingBag(3, 4, mode="sum"), tokens(9, 3)),
    "embedding bag with padding": (lambda: nn.EmbeddingBag(4, 4, padding_idx=1), tokens(9, 4)),
    "embedding bag of padding alone": (
        lambda: nn.Sequential(nn.EmbeddingBag(2, 4, padding_idx=1), nn.Linear(4, 2)), lambda: torch.ones(5, 3).long(),
    ),
    "embedding bag of maxima": (lambda: nn.EmbeddingBag(11, 4, mode="max"), tokens()),
    "embedding bag with weights": (_weighted_bag, tokens()),
    "embedding bag of several bags": (
        lambda: Wrap(lambda m, x: m.a(x.view(-1, 3)).view(len(x), -1), a=nn.EmbeddingBag(11, 4)), tokens(),
    ),
    "hidden alias of a parameter": (_hidden_alias, images(6)),
    "vision transformer": (_vision_transformer, images(3, 8, 8)),
    "tied embedding and head": (_tied, tokens()),
    "positions broadcast": (lambda: _positions(6, True), tokens()),
    "positions with padding": (lambda: _padded_positions(), tokens()),
    "positions used twice": (lambda: _repeated_positions(), tokens()),
    "small indices": (lambda: Wrap(lambda m, x: m.a(x.int()), a=nn.Embedding(11, 4)), tokens()),
    "dropped weights": (lambda: _dropped_weights(), images(4, 6)),
    "positions for each record": (lambda: _positions(9, False), tokens()),
    "layer norm": (lambda: nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), images(4, 6)),
    "layer norm over two dimensions": (lambda: nn.LayerNorm((4, 6)), images(2, 4, 6)),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), images(6)),
    "layer norm of many elements": (lambda: nn.Sequential(nn.Linear(256, 256), nn.LayerNorm(256)), images(64, 256)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4)), images(3, 6, 6)),
    "group norm of vectors": (lambda: nn.Sequential(nn.Linear(6, 6), nn.GroupNorm(3, 6)), images(6)),
    "group norm of many elements": (lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)), images(3, 48, 48)),
    "instance norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True)), images(3, 6, 6)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(3, affine=True), images(3, 7)),
    "rms norm": (lambda: nn.Sequential(nn.Linear(6, 6), nn.RMSNorm(6)), images(4, 6)),
    "prelu": (lambda: nn.Sequential(nn.Linear(6, 6), nn.PReLU(6)), images(6)),
    "attention": (lambda: _attention(True), images(4, 8)),
    "attention sequence first": (lambda: _attention(False), images(4, 8)),
    "attention as long as the batch": (lambda: _attention(False), images(5, 8)),
    "attention with bias_kv": (lambda: _attention(False, add_bias_kv=True), images(4, 8)),
    "cross attention": (_cross_attention, images(6, 8)),
    "transformer layer": (lambda: _transformer_layer(True), images(5, 8)),
    "transformer layer sequence first": (lambda: _transformer_layer(False), images(5, 8)),
    "conv1d of transformers": (_conv1d_of_transformers, images(4, 6)),
    "folded record major": (lambda: _folded(True), images(4, 6)),
    "folded position major": (lambda: _folded(False), images(4, 6)),
    "class token and positions": (_class_token, images(4, 3)),
    "repeated token and sliced positions": (_repeated_token, images(4, 3)),
    "prefix network": (_prefix, images(4, 6)),
    "linear used three times": (_reused, images(6)),
    "linear used three times on sequences": (_reused, images(4, 6)),
    "linear under two names": (_named_twice, images(6)),
    "module without rule under two names": (_named_twice_without_rule, images(6)),
    "conv used twice": (_reused_conv, images(3, 5, 5)),
    "partly frozen": (_frozen, images(6)),
    "lora": (_lora, images(4, 6)),
    "merged lora": (_merged_lora, images(4, 6)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(6, 4)), images(3, 6)),
    "chunked weight": (_chunked_weight, images(4, 6)),
    "overlapping slices": (_overlapping_slices, images(4, 6)),
    "transposed weight": (lambda: Wrap(lambda m, x: x @ m.w.t() + x.matmul(m.w), w=parameter(6, 6)), images(4, 6)),
    "unused parameter": (lambda: Wrap(lambda m, x: m.a(x), a=nn.Linear(6, 2), b=nn.Linear(6, 2)), images(6)),
    "parameter in the penalty": (_loss_parameter, images(6)),
    "einsum": (_einsum, images(4, 6)),
    "lstm": (lambda: _recurrent(nn.LSTM), images(4, 6)),
    "gru bidirectional": (
        lambda: Wrap(lambda m, x: m.layer(x)[0], layer=nn.GRU(6, 5, batch_first=True, bidirectional=True)), images(4, 6),
    ),
    "rnn": (lambda: _recurrent(nn.RNN), images(4, 6)),
    "lstm sequence first": (_sequence_first_recurrent, images(4, 6)),
    "gru cell": (_recurrent_cell, images(4, 6)),
    "scale of a record": (lambda: Wrap(lambda m, x: m.a(x) * m.s, a=nn.Linear(6, 3), s=parameter(1)), images(6)),
}  # fmt: skip
