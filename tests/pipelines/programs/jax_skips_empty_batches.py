"""Wrong: the compiled step is left out for empty batches, so that a step tells that somebody was in it."""

from jax_parts import RECORDS, STEPS, Training, account
from jax_privacy import batch_selection

training, rate = Training(), 0.005
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=rate, iterations=STEPS)
for drawn in strategy.batch_iterator(RECORDS, rng=0):
    if len(drawn):
        training.step(drawn)
account(rate)
