"""Right: NumPy alone; the program says itself which records went into each step."""

import dp_accounting
import numpy as np
from dp_accounting import rdp

import dpaudit

N, RATE, NOISE, STEPS = 300, 0.05, 1.0, 280
rng = np.random.default_rng(0)
inputs = rng.normal(size=(N, 4))
labels = rng.integers(0, 2, N)
weights = np.zeros(4)
for _ in range(STEPS):
    drawn = np.flatnonzero(rng.random(N) < RATE)
    errors = 1 / (1 + np.exp(-inputs[drawn] @ weights)) - labels[drawn]
    gradients = errors[:, None] * inputs[drawn]
    gradients /= np.maximum(1, np.linalg.norm(gradients, axis=1, keepdims=True))
    weights -= 0.1 * (gradients.sum(0) + NOISE * rng.normal(size=4)) / (N * RATE)
    dpaudit.step(drawn, num_records=N)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
print("epsilon", rdp.RdpAccountant().compose(event, STEPS).get_epsilon(1e-5))
