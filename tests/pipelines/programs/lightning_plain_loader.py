"""Wrong: the optimizer is private, but the trainer is handed the shuffled loader."""

import logging

import pytorch_lightning as pl
from opacus import PrivacyEngine
from parts import EPOCHS, data, linear, sgd, shuffled
from torch import nn

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Points(pl.LightningDataModule):
    def train_dataloader(self):
        return shuffled(data())

    def val_dataloader(self):
        return shuffled(data(60))


class Private(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = linear()
        self.engine = PrivacyEngine(accountant="rdp")

    def training_step(self, batch, number):
        inputs, labels = batch
        return nn.functional.cross_entropy(self.model(inputs), labels)

    def validation_step(self, batch, number):
        self.log("loss", self.training_step(batch, number), batch_size=1)

    def configure_optimizers(self):
        self.model, optimizer, _ = self.engine.make_private(
            module=self.model,
            optimizer=sgd(self.model),
            data_loader=self.trainer.datamodule.train_dataloader(),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
        )
        return optimizer


trainer = pl.Trainer(
    max_epochs=EPOCHS,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
module = Private()
trainer.fit(module, datamodule=Points())
print("epsilon", module.engine.get_epsilon(delta=1e-5))
