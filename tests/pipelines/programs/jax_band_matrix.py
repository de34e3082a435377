"""Not judged: noise that is correlated between steps (BandMF), for which no epsilon is computed here."""

from jax_parts import RATE, RECORDS, STEPS, Training, loss
from jax_privacy.experimental.execution_plan import BandMFExecutionPlanConfig

plan = BandMFExecutionPlanConfig(
    iterations=STEPS, strategy=[1.0, 0.5], epsilon=5.0, delta=1e-5, sampling_prob=2 * RATE, noise_seed=0
).plan
training = Training(plan.noise_addition_transform, plan.clipped_grad(loss, batch_argnums=1))
for drawn in plan.batch_selection_strategy.batch_iterator(RECORDS, rng=0):
    training.step(drawn)
