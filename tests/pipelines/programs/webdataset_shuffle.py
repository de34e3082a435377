"""Wrong: shards of records in a shuffle buffer, batched by the pipeline, accounted for as Poisson."""

import io
import tarfile
import tempfile
from pathlib import Path

import dp_accounting
import torch
import webdataset
from dp_accounting import rdp
from parts import BATCH, EPOCHS, RECORDS, data, linear, noisy_step, sgd

RATE, NOISE = BATCH / RECORDS, 1.0
folder = tempfile.TemporaryDirectory()
shard = Path(folder.name) / "points.tar"
with tarfile.open(shard, "w") as tar:
    for number, (inputs, label) in enumerate(data()):
        for ending, content in (("pth", torch.cat([inputs, label[None].float()])),):
            buffer = io.BytesIO()
            torch.save(content, buffer)
            entry = tarfile.TarInfo(f"{number:06d}.{ending}")
            entry.size = buffer.tell()
            tar.addfile(entry, io.BytesIO(buffer.getvalue()))

pipeline = webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False)
pipeline = pipeline.shuffle(60).decode().to_tuple("pth").batched(BATCH)
loader = webdataset.WebLoader(pipeline, batch_size=None)
model = linear()
optimizer = sgd(model)
event = dp_accounting.PoissonSampledDpEvent(RATE, dp_accounting.GaussianDpEvent(NOISE))
accountant = rdp.RdpAccountant()
for _ in range(EPOCHS):
    for (rows,) in loader:
        noisy_step(model, optimizer, (rows[:, :4], rows[:, 4].long()), RATE, NOISE)
print("epsilon", accountant.compose(event, EPOCHS * RECORDS // BATCH).get_epsilon(1e-5))
folder.cleanup()
