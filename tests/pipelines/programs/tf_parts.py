"""What the TensorFlow programs of the gallery share: data, a model and a step of DP-SGD."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import dp_accounting
import keras
import numpy as np
import tensorflow as tf
from dp_accounting import rdp

RECORDS, BATCH, EPOCHS, NOISE, CLIP_NORM = 300, 15, 14, 1.0, 1.0
RATE, STEPS = BATCH / RECORDS, EPOCHS * RECORDS // BATCH
INPUTS = np.random.default_rng(0).normal(size=(RECORDS, 4)).astype("float32")
LABELS = (INPUTS[:, 0] > 0).astype("float32")[:, None]
ROWS = tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1))


class Model(keras.Model):
    """A linear model that keras trains by DP-SGD."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(1)
        self.layer.build((None, 4))
        self.compile(keras.optimizers.SGD(0.1), keras.losses.MeanSquaredError())

    def call(self, inputs):
        return self.layer(inputs)

    def private_gradients(self, inputs, labels):
        """Give the clipped gradients' sum with noise, divided by the expected number of records."""
        with tf.GradientTape(persistent=True) as tape:
            losses = tf.reduce_sum((self(inputs) - labels) ** 2, 1)
        each = tape.jacobian(losses, self.trainable_variables, experimental_use_pfor=False)
        norms = tf.sqrt(
            sum(tf.reduce_sum(tf.reshape(part, [tf.shape(part)[0], -1]) ** 2, 1) for part in each)
        )
        factors = CLIP_NORM / tf.maximum(norms, CLIP_NORM)
        sums = [tf.einsum("i,i...->...", factors, part) for part in each]
        return [(part + tf.random.normal(tf.shape(part), stddev=NOISE * CLIP_NORM)) / BATCH for part in sums]

    def train_step(self, data):
        self.step(*data[:2])
        return {"weight": self.trainable_variables[0][0, 0]}

    def step(self, inputs, labels):
        """Make one step."""
        gradients = self.private_gradients(inputs, labels)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))


def drawn(rate=RATE, steps=STEPS):
    """Draw Poisson batches."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        mask = rng.random(RECORDS) < rate
        yield INPUTS[mask], LABELS[mask]


def records():
    """Give the data set, record by record."""
    return tf.data.Dataset.from_tensor_slices((INPUTS, LABELS))


def account(rate=RATE, steps=STEPS):
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(NOISE))
    print("epsilon", rdp.RdpAccountant().compose(event, steps).get_epsilon(1e-5))
