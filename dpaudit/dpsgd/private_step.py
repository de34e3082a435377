"""The private update: clipped sums of micro-batches, noise once, one step of any optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dpaudit.dpsgd.clipping.choice import Clipping, LayerChoice
from dpaudit.dpsgd.clipping.engine import ClippingEngine
from dpaudit.dpsgd.clipping.factors import ClipFunction
from dpaudit.dpsgd.clipping.groups import Grouping
from dpaudit.dpsgd.clipping.probe import Loss
from dpaudit.dpsgd.clipping.result import ClippedGradients, zeros_like_sum
from dpaudit.dpsgd.clipping.unsupported import UnsupportedModelError
from dpaudit.dpsgd.compiled import CompiledEngine
from dpaudit.dpsgd.noise import NoiseSource


class PrivateStep:
    """Accumulate the clipped gradients of a logical batch, then update privately.

        private = make_private(model, optimizer, loss=loss, clip_norm=1.0, noise_multiplier=1.0,
        expected_batch_size=256)
        for inputs, targets in micro_batches:  # any number, none for an empty batch
            private.accumulate(inputs, targets)
        private.step()

    Attributes:
      engine: computes the clipped gradients.
      optimizer: any torch optimizer over parameters of the model.
      noise: the source of noise.
      noise_multiplier: standard deviation of the noise over the sensitivity of the sum.
      expected_batch_size: what sums are divided by, whatever was drawn.
      autocast: precision of the forward pass; norms, sums and noise are in float32 or better whatever it is.
    """

    def __init__(
        self,
        engine: ClippingEngine,
        optimizer: torch.optim.Optimizer,
        noise: NoiseSource,
        *,
        noise_multiplier: float,
        expected_batch_size: float,
        autocast: torch.dtype | None = None,
    ) -> None:
        if not (noise_multiplier >= 0 and math.isfinite(noise_multiplier)):
            raise ValueError(f"noise_multiplier must be finite and not negative, got {noise_multiplier!r}")
        if not (expected_batch_size > 0 and math.isfinite(expected_batch_size)):
            raise ValueError(f"expected_batch_size must be positive, got {expected_batch_size!r}")
        self.engine, self.optimizer, self.noise = engine, optimizer, noise
        self.noise_multiplier, self.expected_batch_size = noise_multiplier, expected_batch_size
        self.autocast = autocast
        self._refused = torch.zeros((), dtype=torch.int64)
        self._parameters = {n: p for n, p in engine.model.named_parameters() if p.requires_grad}
        self._sums: dict[str, Tensor] | None = None
        _check_optimizer(optimizer, self._parameters)

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise on the sum: noise multiplier times sensitivity."""
        return self.noise_multiplier * self.engine.groups.sensitivity

    @property
    def refused(self) -> int:
        """Records so far that added nothing because their gradient was not finite."""
        return int(self._refused)

    def clip(self, inputs: Any, targets: Any, mask: Tensor | None = None) -> ClippedGradients:
        """Compute the clipped gradients of a micro-batch, and add them to nothing.

        Raises:
          UnsupportedModelError: the forward pass changed a buffer. What it keeps of the records has no noise:
            it would be released with the model, and later gradients of other records would depend on it.
        """
        model = self.engine.model
        device = next((p.device.type for p in model.parameters()), "cpu")
        before = _buffers(model)
        with torch.autocast(device, self.autocast, enabled=self.autocast is not None):
            found = self.engine(inputs, targets, mask)
        changed = [name for name, one in _buffers(model).items() if before.get(name) != one]
        if changed:
            raise UnsupportedModelError(
                f"the forward pass changes buffer {changed[0]!r}, which keeps something of the records "
                "without noise",
                "Let it depend on no record, or put its module in eval() mode.",
            )
        return found

    def accumulate(self, inputs: Any, targets: Any, mask: Tensor | None = None) -> ClippedGradients:
        """Add the clipped gradients of a micro-batch; its records must not be in this logical batch already.

        Args:
          inputs: as for `clipped_gradients`.
          targets: likewise.
          mask: bool (batch,); records where it is False count for nothing.

        Returns:
          Norms, losses and factors of the micro-batch; its sums are taken over, and left out.
        """
        if self._sums is None:
            self.noise.prepare(self._parameters)
        found = self.clip(inputs, targets, mask)
        self._refused = self._refused.to(found.refused.device) + found.refused.sum()
        if self._sums is None:
            self._sums = found.sums
        else:
            for name, total in self._sums.items():
                total.add_(found.sums[name])
        return replace(found, sums={})

    def discard(self) -> None:
        """Forget the micro-batches so far: after an error, the next logical batch must not add to them."""
        self._sums = None

    @torch.no_grad()
    def step(self) -> None:
        """Add noise once, divide by the expected batch size, and let the optimizer update.

        Without a preceding `accumulate` the logical batch was empty: the update is noise alone.
        """
        sums, self._sums = self._sums, None
        if sums is None:
            sums = {name: zeros_like_sum(parameter) for name, parameter in self._parameters.items()}
        self.noise.add(sums, self.noise_scale, 1 / self.expected_batch_size)
        for name, parameter in self._parameters.items():
            parameter.grad = sums[name].to(parameter.dtype)
        self.optimizer.step()
        for parameter in self._parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        """What a later `set_state` needs; call it between logical batches.

        Raises:
          ValueError: in the middle of a logical batch.
        """
        if self._sums is not None:
            raise ValueError("a logical batch is under way; call step() first")
        return {
            "model": self.engine.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "noise": self.noise.state(),
            "refused": self.refused,
            "settings": self.settings(),
            # Measured routes differ between runs in the last bits of the sums.
            "routes": [
                (key, (choice.route, choice.reason, choice.seconds))
                for key, choice in self.engine.chooser.choices.items()
            ],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
          ValueError: the state was made under another mechanism, or for another model or optimizer.
        """
        for name, value in self.settings().items():
            if state["settings"].get(name) == value:
                continue
            if name == "groups":  # too long to be shown
                raise ValueError(
                    "the checkpoint is of other trainable parameters, or clips them in other groups"
                )
            raise ValueError(f"the checkpoint has {name} {state['settings'].get(name)!r}, not {value!r}")
        try:
            self.engine.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.noise.set_state(state["noise"])
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"the checkpoint is of another model or device: {reason}") from error
        self.engine.chooser.choices.update({key: LayerChoice(*choice) for key, choice in state["routes"]})
        self._refused, self._sums = torch.tensor(state["refused"]), None

    def settings(self) -> dict[str, Any]:
        """What the privacy of the mechanism depends on."""
        return {
            "clip_norms": list(self.engine.groups.clip_norms),
            "groups": dict(self.engine.groups.index),
            "clip_function": getattr(self.engine.clip_function, "__qualname__", "a function without a name"),
            "noise_multiplier": self.noise_multiplier,
            "expected_batch_size": self.expected_batch_size,
        }


def make_private(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    loss: Loss,
    clip_norm: float | Mapping[str, float],
    noise_multiplier: float,
    expected_batch_size: float,
    clipping: Clipping = "bk_mix_opt",
    groups: Grouping = "flat",
    clip_function: Literal["abadi", "automatic"] | ClipFunction = "abadi",
    nonfinite: Literal["zero", "raise"] = "zero",
    generator: torch.Generator | None = None,
    noise_ahead: bool = False,
    memory_budget: int | None = None,
    measure: bool = True,
    autocast: torch.dtype | None = None,
    compile: bool = False,
) -> PrivateStep:
    """Make the private update of a model and an optimizer.

    Args:
      model: see `clipped_gradients`. It is not changed or wrapped.
      optimizer: over (some of) its trainable parameters.
      loss: loss(outputs, targets) gives one value for each record.
      clip_norm: bound C on each record's gradient norm, or one for each group.
      noise_multiplier: standard deviation of the noise over the sensitivity; 0 adds none.
      expected_batch_size: what the noisy sum is divided by. A public number, chosen before the data is seen:
        neither the realised batch size nor the number of records may enter it under add-or-remove adjacency.
      clipping: the mode of clipping.
      groups: parameters to clip together.
      clip_function: "abadi", "automatic", or a function of (norms, C).
      nonfinite: "zero" or "raise", for a record whose gradient is not finite.
      generator: of the noise, on the model's device, and of nothing else; None takes the operating system's
        cryptographic generator.
      noise_ahead: draw noise in a thread during the backward pass; see `NoiseSource`.
      memory_budget: bytes of per-record gradients that one layer may hold.
      measure: time the routes of large layers; False chooses by a model of the costs.
      autocast: precision of the forward pass, e.g. torch.bfloat16; None leaves it to the model.
      compile: record and compile the clipped gradients, once for each shape; see `CompiledEngine`.

    Raises:
      ValueError: an argument is out of range, or the optimizer updates parameters that the model does not
        train.
    """
    kind = CompiledEngine if compile else ClippingEngine
    engine = kind(
        model, loss, clip_norm=clip_norm, clipping=clipping, groups=groups, clip_function=clip_function,
        nonfinite=nonfinite, memory_budget=memory_budget, measure=measure,
    )  # fmt: skip
    return PrivateStep(
        engine, optimizer, NoiseSource(generator, ahead=noise_ahead), noise_multiplier=noise_multiplier,
        expected_batch_size=expected_batch_size, autocast=autocast,
    )  # fmt: skip


def _buffers(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Tell which tensor each buffer is and how often it was written; no look at values, so no waiting."""
    return {name: (id(buffer), buffer._version) for name, buffer in model.named_buffers()}


def _check_optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> None:
    known = {id(parameter) for parameter in parameters.values()}
    strangers = [
        tuple(parameter.shape)
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad and id(parameter) not in known
    ]
    if strangers:
        raise ValueError(f"the optimizer updates a parameter of shape {strangers[0]} that is not the model's")
