"""Right: a Hugging Face Trainer is made to iterate the loader that make_private returned."""

import tempfile

import torch
from opacus import PrivacyEngine
from parts import BATCH, EPOCHS, data, linear, sgd, shuffled
from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments


class Points(Dataset):
    def __init__(self) -> None:
        self.tensors = data().tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, number):
        return {"inputs": self.tensors[0][number], "labels": self.tensors[1][number]}


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = linear()

    def forward(self, inputs, labels, **_):
        scores = self.inside(inputs)
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


model = Classifier()
engine = PrivacyEngine(accountant="rdp")
model, optimizer, private_loader = engine.make_private(
    module=model,
    optimizer=sgd(model),
    data_loader=shuffled(Points()),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
)


class PrivateTrainer(Trainer):
    def get_train_dataloader(self):
        return private_loader

    def create_optimizer(self, *_):
        self.optimizer = optimizer
        return optimizer

    def create_scheduler(self, *_, **__):
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer.original_optimizer, lambda _: 1.0)
        return self.lr_scheduler


class ClearGradients(TrainerCallback):
    def on_step_end(self, *_, **__):
        optimizer.zero_grad()


with tempfile.TemporaryDirectory() as folder:
    PrivateTrainer(
        model=model,
        args=TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            max_grad_norm=0.0,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=True,
            remove_unused_columns=False,
        ),
        train_dataset=Points(),
        callbacks=[ClearGradients()],
    ).train()
print("epsilon", engine.get_epsilon(delta=1e-5))
