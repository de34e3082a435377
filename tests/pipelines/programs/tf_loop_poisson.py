"""Right: a loop over Poisson batches of a generator, with gradients and steps outside any tf.function."""

import tensorflow as tf
from tf_parts import ROWS, Model, account, drawn

model = Model()
for inputs, labels in tf.data.Dataset.from_generator(drawn, output_signature=ROWS):
    model.step(inputs, labels)
account()
