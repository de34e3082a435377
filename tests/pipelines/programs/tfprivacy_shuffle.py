"""Wrong: TF-Privacy's optimizer in Keras' fit, which shuffles, and its account of Poisson sampling."""

import numpy as np
import tensorflow as tf
import tensorflow_privacy

RECORDS, BATCH, EPOCHS, NOISE = 300, 15, 14, 1.0
inputs = np.random.default_rng(0).normal(size=(RECORDS, 4)).astype("float32")
labels = (inputs[:, 0] > 0).astype("int32")
model = tf.keras.Sequential([tf.keras.Input((4,)), tf.keras.layers.Dense(2)])
optimizer = tensorflow_privacy.DPKerasSGDOptimizer(
    l2_norm_clip=1.0, noise_multiplier=NOISE, num_microbatches=BATCH, learning_rate=0.1
)
model.compile(optimizer, tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none"))
model.fit(inputs, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
print(tensorflow_privacy.compute_dp_sgd_privacy(RECORDS, BATCH, NOISE, EPOCHS, 1e-5))
