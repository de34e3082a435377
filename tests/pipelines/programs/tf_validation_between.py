"""Right: between Poisson epochs a validation set and the training set are walked over, without training."""

import tensorflow as tf
from tf_parts import BATCH, EPOCHS, INPUTS, LABELS, ROWS, STEPS, Model, account, drawn, records

model = Model()
batches = tf.data.Dataset.from_generator(drawn, output_signature=ROWS)
validation = tf.data.Dataset.from_tensor_slices((INPUTS[:60] + 1, LABELS[:60])).batch(BATCH)
model.fit(batches, epochs=EPOCHS, steps_per_epoch=STEPS // EPOCHS, verbose=0, validation_data=validation)
model.evaluate(records().batch(BATCH), verbose=0)
model.predict(INPUTS, verbose=0)
account()
