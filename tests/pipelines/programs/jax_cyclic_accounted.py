"""Right: cyclic Poisson sampling and fresh noise, accounted for by rounds, each of period batches."""

from jax_parts import RATE, RECORDS, STEPS, Training, account
from jax_privacy import batch_selection

training, period = Training(), 5
strategy = batch_selection.CyclicPoissonSampling(
    sampling_prob=RATE * period, iterations=STEPS, cycle_length=period
)
for drawn in strategy.batch_iterator(RECORDS, rng=0):
    training.step(drawn)
account(RATE * period, STEPS // period)
