"""Right: Poisson batches of NumPy arrays, each handed to Keras' train_on_batch."""

from tf_parts import Model, account, drawn

model = Model()
for inputs, labels in drawn():
    model.train_on_batch(inputs, labels)
account()
