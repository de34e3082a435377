"""Wrong: a step joins two Poisson draws, each at q, and is accounted for as one draw at q."""

import numpy as np
from jax_parts import RATE, RECORDS, STEPS, Training, account
from jax_privacy import batch_selection

training = Training()
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=RATE, iterations=2 * STEPS)
batches = strategy.batch_iterator(RECORDS, rng=0)
for first, second in zip(batches, batches, strict=True):
    training.step(np.concatenate([first, second]))
account()
