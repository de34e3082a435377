"""Wrong: shuffled epochs are repeated before they are batched, so that batches reach over their ends."""

from tf_parts import BATCH, EPOCHS, RECORDS, Model, account, records

batches = records().shuffle(RECORDS, seed=0).repeat(EPOCHS).batch(BATCH - 1, drop_remainder=True)
Model().fit(batches, verbose=0)
account()
