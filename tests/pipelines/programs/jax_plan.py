"""Right: an execution plan of jax_privacy, its noise calibrated for a target, used as it is meant to be."""

from jax_parts import RATE, RECORDS, STEPS, Training, loss
from jax_privacy.experimental.execution_plan import BandMFExecutionPlanConfig

plan = BandMFExecutionPlanConfig(
    iterations=STEPS, strategy=[1.0], epsilon=5.0, delta=1e-5, sampling_prob=RATE, noise_seed=0
).plan
training = Training(plan.noise_addition_transform, plan.clipped_grad(loss, batch_argnums=1))
for drawn in plan.batch_selection_strategy.batch_iterator(RECORDS, rng=0):
    training.step(drawn)
