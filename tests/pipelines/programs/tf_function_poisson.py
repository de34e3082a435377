"""Right: tf.data draws Poisson batches by itself, and a compiled tf.function makes each step."""

import tensorflow as tf
from tf_parts import INPUTS, LABELS, RATE, RECORDS, STEPS, Model, account

model = Model()
inputs, labels = tf.constant(INPUTS), tf.constant(LABELS)


def draw(seed):
    mask = tf.random.stateless_uniform([RECORDS], [seed, 7]) < RATE
    return tf.boolean_mask(inputs, mask), tf.boolean_mask(labels, mask)


step = tf.function(model.step, reduce_retracing=True)


for batch, target in tf.data.Dataset.range(STEPS).map(draw):
    step(batch, target)
account()
