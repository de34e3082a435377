"""Right: Keras' fit over a generator of Poisson batches, empty ones among them."""

import tensorflow as tf
from tf_parts import ROWS, Model, account, drawn

RATE, STEPS = 0.01, 1200
batches = tf.data.Dataset.from_generator(lambda: drawn(RATE, STEPS), output_signature=ROWS)
Model().fit(batches.prefetch(2), verbose=0)
account(RATE, STEPS)
