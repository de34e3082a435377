"""The reference DP-SGD: exact clipping, samplers, noise, and a training loop that is read in one sitting."""

from dpaudit.dpsgd.clipping.engine import ClippingEngine
from dpaudit.dpsgd.clipping.functional import clipped_gradients
from dpaudit.dpsgd.clipping.result import ClippedGradients
from dpaudit.dpsgd.clipping.unsupported import UnsupportedModelError
from dpaudit.dpsgd.compiled import CompiledEngine
from dpaudit.dpsgd.generators import secret_generator
from dpaudit.dpsgd.noise import NoiseSource
from dpaudit.dpsgd.private_step import PrivateStep, make_private
from dpaudit.dpsgd.samplers import BatchSampler
from dpaudit.dpsgd.trainer import PrivateTrainer, StepReport, fetch_from

__all__ = [
    "BatchSampler",
    "ClippedGradients",
    "ClippingEngine",
    "CompiledEngine",
    "NoiseSource",
    "PrivateStep",
    "PrivateTrainer",
    "StepReport",
    "UnsupportedModelError",
    "clipped_gradients",
    "fetch_from",
    "make_private",
    "secret_generator",
]
