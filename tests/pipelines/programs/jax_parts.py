"""What the JAX programs of the gallery share: data, and a compiled step of DP-SGD."""

import dp_accounting
import jax
import jax.numpy as jnp
import jax_privacy
import numpy as np
import optax
from dp_accounting import rdp
from jax_privacy import batch_selection, noise_addition

RECORDS, RATE, NOISE, STEPS = 300, 0.05, 1.0, 280
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(RECORDS, 4)), jnp.float32)
OPTIMIZER = optax.sgd(0.01)


def loss(weights, batch):
    return jnp.mean((jnp.tanh(batch @ weights) - 1) ** 2)


class Training:
    """A linear model, and the compiled step that trains it on record numbers."""

    def __init__(self, privatizer=None, gradients=None):
        gradients = gradients or jax_privacy.clipped_grad(loss, l2_clip_norm=1.0, batch_argnums=1)
        noise = privatizer or noise_addition.gaussian_privatizer(stddev=NOISE, prng_key=jax.random.key(0))

        def step(weights, noise_state, state, batch, is_padding):
            clipped = gradients(weights, batch, is_padding_example=is_padding)
            noisy, noise_state = noise.update(clipped, noise_state)
            updates, state = OPTIMIZER.update(noisy, state)
            return optax.apply_updates(weights, updates), noise_state, state

        self._compiled = jax.jit(step)
        weights = jnp.zeros(4)
        self.state = weights, noise.init(weights), OPTIMIZER.init(weights)

    def step(self, drawn):
        padded = batch_selection.pad_to_multiple_of(drawn, 16)
        self.state = self._compiled(*self.state, INPUTS[padded], padded == -1)


def account(rate=RATE, steps=STEPS):
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(NOISE))
    print("epsilon", rdp.RdpAccountant().compose(event, steps).get_epsilon(1e-5))
