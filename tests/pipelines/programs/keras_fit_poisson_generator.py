"""Right: Keras' fit over a generator of Poisson batches, empty ones among them."""

import tensorflow as tf
from tf_parts import ROWS, Model, account, drawn

batches = tf.data.Dataset.from_generator(drawn, output_signature=ROWS).prefetch(2)
Model().fit(batches, verbose=0)
account()
