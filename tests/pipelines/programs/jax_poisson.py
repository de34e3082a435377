"""Right: jax_privacy draws Poisson batches, and a compiled step clips, adds noise and updates by optax."""

from jax_parts import RATE, RECORDS, STEPS, Training, account
from jax_privacy import batch_selection

training = Training()
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=RATE, iterations=STEPS)
for drawn in strategy.batch_iterator(RECORDS, rng=0):
    training.step(drawn)
account()
