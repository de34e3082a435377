"""Stand-in, see README.md: gradients of several backward passes are summed, and get noise at the step."""

from __future__ import annotations

import math
import types

import torch

from .accounting import accounting_manager


class PrivacyEngine:
    def __init__(
        self,
        module,
        *,
        batch_size,
        sample_size,
        max_grad_norm=1.0,
        epochs=None,
        num_steps=None,
        noise_multiplier=None,
        target_epsilon=None,
        target_delta=None,
        alphas=accounting_manager.DEFAULT_ALPHAS,
        accounting_mode="rdp",
        eps_error=0.05,
        num_GPUs=1,
        torch_seed_is_fixed=False,
        **unused_kwargs,
    ):
        if epochs is None:
            epochs = num_steps / sample_size * batch_size
        sample_rate = batch_size / sample_size
        target_delta = 1 / (2 * sample_size) if target_delta is None else target_delta
        if noise_multiplier is None:
            noise_multiplier = accounting_manager.RDPManager(alphas=alphas).compute_sigma(
                target_epsilon=target_epsilon,
                target_delta=target_delta,
                sample_rate=sample_rate,
                epochs=epochs,
            )
        self.batch_size, self.sample_size, self.sample_rate = batch_size, sample_size, sample_rate
        self.max_grad_norm, self.epochs, self.noise_multiplier = max_grad_norm, epochs, noise_multiplier
        self.target_epsilon, self.target_delta = target_epsilon, target_delta
        self.alphas, self.eps_error, self.accounting_mode = alphas, eps_error, accounting_mode
        self.steps = 0
        self.module = module
        self.named_params = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        for _, param in self.named_params:
            share = num_GPUs if torch_seed_is_fixed else math.sqrt(num_GPUs)
            param.noise = noise_multiplier * max_grad_norm / share

    def attach(self, optimizer):
        def keep(param):
            param.summed_clipped_grad = getattr(param, "summed_clipped_grad", 0) + param.grad
            param.grad = None

        for _, param in self.named_params:
            param.register_post_accumulate_grad_hook(keep)

        def dp_step(_self, **kwargs):
            closure = kwargs.pop("closure", None)
            _self.zero_grad()
            _self.privacy_engine._create_noisy_clipped_gradient(**kwargs)
            _self.original_step(closure=closure)
            _self.privacy_engine.steps += 1

        optimizer.privacy_engine = self
        optimizer.original_step = optimizer.step
        optimizer.step = types.MethodType(dp_step, optimizer)
        optimizer.get_privacy_spent = types.MethodType(
            lambda _self, **kwargs: _self.privacy_engine.get_privacy_spent(**kwargs), optimizer
        )
        self.optimizer = optimizer

    def _create_noisy_clipped_gradient(self):
        for _, param in self.named_params:
            param.grad = param.summed_clipped_grad + param.noise * torch.randn_like(param)
            param.grad /= self.batch_size
            del param.summed_clipped_grad

    def get_privacy_spent(self, steps=None, accounting_mode=None, lenient=False):
        asked = {
            "sigma": self.noise_multiplier,
            "sample_rate": self.sample_rate,
            "target_delta": self.target_delta,
            "steps": self.steps if steps is None else steps,
        }
        mode, results = accounting_mode or self.accounting_mode, {}
        if mode in ("all", "rdp"):
            results.update(accounting_manager.RDPManager(alphas=self.alphas).compute_epsilon(**asked))
        if mode in ("all", "glw"):
            results.update(accounting_manager.GLWManager(eps_error=self.eps_error).compute_epsilon(**asked))
        return results


class PrivacyEngine_Distributed_extending:
    def __init__(self, module, *, batch_size, sample_size, noise_multiplier=None, **unused_kwargs):
        self.module, self.batch_size, self.sample_size = module, batch_size, sample_size
        self.sample_rate, self.noise_multiplier = batch_size / sample_size, noise_multiplier
