"""Right: batches of jax_privacy and updates by NumPy; the program says where its steps end."""

import numpy as np
from jax_parts import NOISE, RATE, RECORDS, STEPS, account
from jax_privacy import batch_selection

import dpaudit

rng = np.random.default_rng(0)
inputs, weights = rng.normal(size=(RECORDS, 4)), np.zeros(4)
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=RATE, iterations=STEPS)
for drawn in strategy.batch_iterator(RECORDS, rng=0):
    weights -= 0.01 * (np.tanh(inputs[drawn]).sum(0) + NOISE * rng.normal(size=4))
    dpaudit.step()
account()
