"""Stand-in, see README.md: steps take the losses of records, virtual steps only sum their gradients."""

from __future__ import annotations

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
        max_grad_norm,
        epochs=None,
        noise_multiplier=None,
        target_epsilon=None,
        target_delta=None,
        alphas=accounting_manager.DEFAULT_ALPHAS,
        clipping_mode="default",
        accounting_mode="rdp",
        eps_error=0.05,
        skip_checks=False,
        **unused_kwargs,
    ):
        sample_rate = batch_size / sample_size
        target_delta = sample_size**-1.1 if target_delta is None else target_delta
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
        self.clipping_mode = clipping_mode
        self.steps = 0
        self.module = module
        self.named_params = tuple((name, p) for name, p in module.named_parameters() if p.requires_grad)

    def attach(self, optimizer):
        def dp_step(_self, **kwargs):
            closure = kwargs.pop("closure", None)
            _self.privacy_engine.step(**kwargs)
            _self.original_step(closure=closure)
            _self.privacy_engine.steps += 1

        def forward(name):
            return lambda _self, *args, **kwargs: getattr(_self.privacy_engine, name)(*args, **kwargs)

        optimizer.privacy_engine = self
        optimizer.original_step = optimizer.step
        optimizer.step = types.MethodType(dp_step, optimizer)
        for name in ("zero_grad", "virtual_step", "get_privacy_spent"):
            setattr(optimizer, name, types.MethodType(forward(name), optimizer))
        self.optimizer = optimizer

    def zero_grad(self, skip_grad=False):
        for _, param in self.named_params:
            param.grad = param.summed_grad = None

    @torch.no_grad()
    def step(self, loss, scale=1.0, callback=None):
        self.virtual_step(loss)
        self._create_noisy_clipped_gradient()

    @torch.no_grad()
    def virtual_step(self, loss, scale=1.0):
        with torch.enable_grad():
            if self.clipping_mode == "ghost":
                loss.sum().backward(retain_graph=True)
                for _, param in self.named_params:
                    param.grad = None
            loss.sum().backward()
        for _, param in self.named_params:
            before = getattr(param, "summed_grad", None)
            param.summed_grad = param.grad if before is None else before + param.grad
            param.grad = None

    def _create_noisy_clipped_gradient(self):
        for _, param in self.named_params:
            scale = self.noise_multiplier * self.max_grad_norm
            param.grad = (param.summed_grad + scale * torch.randn_like(param)) / self.batch_size
            param.summed_grad = None

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
