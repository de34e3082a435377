"""The steps that the clipping benchmark compares: ours, the non-private one, and the peers'."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from clipping_models import Case
from torch import nn
from torch.func import functional_call, grad, vmap

CLIP_NORM, NOISE_MULTIPLIER, RATE = 1.0, 1.0, 1e-4
Step = Callable[[Any, torch.Tensor], None]

#: Methods timed by default. `*_without_noise` compares with `non_private` only: every peer adds noise.
METHODS = (
    "non_private", "bk_mix_opt_without_noise", "bk_mix_opt", "bk_mix_opt_noise_ahead",
    "bk_mix_opt_without_noise_blas", "bk_mix_opt_blas",
    "opacus_hooks", "opacus_ghost", "vmap",
)  # fmt: skip


def make_step(method: str, case: Case, model: nn.Module, batch: int) -> Step:
    """Give the step of a method: zero_grad, forward, backward, clip, noise, update."""
    if method == "non_private":
        return non_private(case, model)
    if method.startswith("opacus"):
        return opacus(case, model, batch, method == "opacus_ghost")
    if method == "vmap":
        return mapped(case, model, batch)
    if method.startswith("fastdp"):
        return fastdp(case, model, batch, method.partition("_")[2])
    plain = method.removesuffix("_blas")
    mode = plain.removesuffix("_without_noise").removesuffix("_noise_ahead")
    step = ours(case, model, batch, mode, plain.removeprefix(mode))
    return step if plain == method else by_blas(step)


def by_blas(step: Step) -> Step:
    """Let a step of ours multiply by the library that PyTorch takes."""
    from dpaudit.dpsgd.clipping import products

    def slower(inputs: Any, targets: torch.Tensor) -> None:
        with mock.patch.object(products, "onednn_linear", return_value=None):
            step(inputs, targets)

    return slower


def non_private(case: Case, model: nn.Module) -> Step:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step(inputs: Any, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        case.loss(model(inputs), targets).mean().backward()
        optimizer.step()

    return step


def ours(case: Case, model: nn.Module, batch: int, mode: str, variant: str) -> Step:
    from dpaudit.dpsgd import make_private

    device = next(model.parameters()).device
    noisy = variant != "_without_noise"
    # Without noise nothing is divided either: the division rides on the pass that adds the noise.
    divisor = batch if noisy else 1
    private = make_private(
        model, torch.optim.SGD(model.parameters(), lr=RATE * divisor / batch), loss=case.loss,
        clip_norm=CLIP_NORM, noise_multiplier=NOISE_MULTIPLIER if noisy else 0.0,
        expected_batch_size=divisor, clipping=mode, noise_ahead=variant == "_noise_ahead",
        generator=torch.Generator(device).manual_seed(0),
    )  # fmt: skip

    def step(inputs: Any, targets: torch.Tensor) -> None:
        private.accumulate(inputs, targets)
        private.step()

    return step


def opacus(case: Case, model: nn.Module, batch: int, ghost: bool) -> Step:
    from opacus.grad_sample import GradSampleModule
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleModuleFastGradientClipping,
    )
    from opacus.optimizers import DPOptimizer
    from opacus.optimizers.optimizer_fast_gradient_clipping import DPOptimizerFastGradientClipping

    plain = torch.optim.SGD(model.parameters(), lr=RATE)
    options = {
        "noise_multiplier": NOISE_MULTIPLIER, "max_grad_norm": CLIP_NORM, "expected_batch_size": batch,
    }  # fmt: skip
    if ghost:
        wrapped = GradSampleModuleFastGradientClipping(
            model, max_grad_norm=CLIP_NORM, use_ghost_clipping=True, loss_reduction="mean"
        )
        optimizer = DPOptimizerFastGradientClipping(plain, **options)
    else:
        wrapped, optimizer = GradSampleModule(model), DPOptimizer(plain, **options)

    def hooks_step(inputs: Any, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        case.loss(wrapped(inputs), targets).mean().backward()
        optimizer.step()

    def ghost_step(inputs: Any, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        losses = case.loss(wrapped(inputs), targets)
        wrapped.enable_hooks()
        losses.mean().backward(retain_graph=True)
        optimizer.zero_grad()
        factors = wrapped.get_clipping_coef()
        wrapped.disable_hooks()
        (factors * losses).sum().backward()
        wrapped.enable_hooks()
        optimizer.step()

    return ghost_step if ghost else hooks_step


def mapped(case: Case, model: nn.Module, batch: int) -> Step:
    """Per-record gradients by torch.func, clipped, summed and noised as plainly as can be."""
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), lr=RATE)

    def one(values: dict[str, torch.Tensor], inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        outputs = functional_call(model, values, (inputs.unsqueeze(0),))
        return case.loss(outputs, target.unsqueeze(0))[0]

    gradients_of = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")

    def step(inputs: Any, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        gradients = gradients_of({n: p.detach() for n, p in parameters.items()}, inputs, targets)
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
        factors = CLIP_NORM / torch.stack(squares).sum(0).sqrt().clamp(min=CLIP_NORM)
        for name, parameter in parameters.items():
            total = torch.mv(gradients[name].flatten(1).t(), factors).view_as(parameter)
            noise = torch.randn_like(total)
            parameter.grad = total.add_(noise, alpha=NOISE_MULTIPLIER * CLIP_NORM).div_(batch)
        optimizer.step()

    return step


def fastdp(case: Case, model: nn.Module, batch: int, mode: str) -> Step:
    from fastDP import PrivacyEngine

    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    engine = PrivacyEngine(
        model, batch_size=batch, sample_size=50_000, epochs=1, noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP_NORM, clipping_fn="Abadi", clipping_mode=mode, loss_reduction="mean",
    )  # fmt: skip
    engine.attach(optimizer)

    def step(inputs: Any, targets: torch.Tensor) -> None:
        case.loss(model(inputs), targets).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def add_fastdp(path: str | None) -> tuple[str, ...]:
    """Make a checkout of fast-differential-privacy importable; name its methods."""
    if path is None:
        return ()
    sys.path.insert(0, path)
    return ("fastdp_MixOpt", "fastdp_ghost")
