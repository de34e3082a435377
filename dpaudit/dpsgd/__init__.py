"""The reference DP-SGD: exact clipping, samplers, noise, and a training loop that is read in one sitting."""

from dpaudit.dpsgd.clipping.engine import ClippingEngine
from dpaudit.dpsgd.clipping.functional import clipped_gradients
from dpaudit.dpsgd.clipping.result import ClippedGradients
from dpaudit.dpsgd.clipping.unsupported import UnsupportedModelError
from dpaudit.dpsgd.compiled import CompiledEngine
from dpaudit.dpsgd.generators import secret_generator
from dpaudit.dpsgd.many_models import Recipe, SmallData, black_box_scores, dead_feature_canary, train_many
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
    "Recipe",
    "SmallData",
    "StepReport",
    "UnsupportedModelError",
    "black_box_scores",
    "clipped_gradients",
    "dead_feature_canary",
    "fetch_from",
    "make_private",
    "secret_generator",
    "train_many",
]
