"""Right: jax_privacy draws Poisson batches, and the program says which records went into each step."""

import dp_accounting
import numpy as np
from dp_accounting import rdp
from jax_privacy import batch_selection

import dpaudit

N, RATE, NOISE, STEPS = 300, 0.05, 1.0, 280
strategy = batch_selection.CyclicPoissonSampling(sampling_prob=RATE, iterations=STEPS)
rng = np.random.default_rng(0)
inputs = rng.normal(size=(N, 4))
weights = np.zeros(4)
for drawn in strategy.batch_iterator(N, rng=0):
    drawn = np.asarray(drawn)
    weights -= 0.01 * (np.tanh(inputs[drawn]).sum(0) + NOISE * rng.normal(size=4))
    dpaudit.step(drawn, num_records=N)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
print("epsilon", rdp.RdpAccountant().compose(event, STEPS).get_epsilon(1e-5))
