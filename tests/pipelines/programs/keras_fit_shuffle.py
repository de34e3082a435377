"""Wrong: Keras' fit shuffles its arrays at each epoch, and Poisson sampling is accounted for."""

from tf_parts import BATCH, EPOCHS, INPUTS, LABELS, Model, account

Model().fit(INPUTS, LABELS, batch_size=BATCH, epochs=EPOCHS, verbose=0)
account()
