"""Wrong: a shuffle buffer that holds a fifth of the records, accounted for as Poisson sampling."""

import tensorflow as tf
from tf_parts import BATCH, EPOCHS, RECORDS, Model, account, records

model = Model()
batches = records().shuffle(RECORDS // 5, seed=0).batch(BATCH)
step = tf.function(model.step)
for _ in range(EPOCHS):
    for batch in batches:
        step(*batch)
account()
