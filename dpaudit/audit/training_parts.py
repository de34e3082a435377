"""From a training file to its model, records, loss and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from dpaudit.dpsgd.packaged import packaged_data, packaged_model
from dpaudit.dpsgd.trainer import Fetch, fetch_from
from dpaudit.errors import DpauditError, nearest_name
from dpaudit.instrument.expression import evaluate
from dpaudit.instrument.importing import import_file
from dpaudit.instrument.usercode import user_code
from dpaudit.training_file import ModelChoice, TrainingFile, TrainingSettings

Loss = Callable[[Any, Any], Tensor]
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16,
           "float16": torch.float16}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The records of a training: how many, how to get some, and what to test on, if anything."""

    num_records: int
    fetch: Fetch
    shape: torch.Size | None
    classes: int | None
    test: tuple[Tensor, Tensor] | None


def find_device(name: str) -> torch.device:
    """Give the device of that name; "auto" is the first GPU, else the processor.

    Raises:
      DpauditError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise DpauditError(f"no device {name!r} here: {str(error).splitlines()[0]}") from error


def load_records(file: TrainingFile, device: torch.device, dtype: torch.dtype) -> Records:
    """Load the records that a training file names.

    Raises:
      DpauditError: they are not there, or not of a form that can be trained on.
    """
    if file.data.name is not None:
        data = packaged_data(file.data.name)
        set_aside = (_moved(data.test_inputs, device, dtype), data.test_targets.to(device))
        return _of_tensors(data.inputs, data.targets, device, dtype, data.classes, set_aside)
    spec = str(file.data.file)
    found = _from_file(spec, file.path)
    if callable(found) and not isinstance(found, Dataset):
        with user_code(f"call {spec}", keep_stdout=False):
            found = found()
    if isinstance(found, Dataset):
        return _of_data_set(found, spec, device, dtype)
    if not (isinstance(found, (tuple, list)) and len(found) in (2, 4)):
        raise DpauditError(
            f"{spec} is a {type(found).__name__}",
            "It must be a map-style Dataset of (inputs, targets), or the tensors (inputs, targets) or "
            "(inputs, targets, test inputs, test targets), or a function that gives one of these.",
        )
    tensors = [_as_rows(one, spec) for one in found]
    for inputs, targets, of in zip(tensors[::2], tensors[1::2], ("", "test "), strict=False):
        if len(inputs) != len(targets):
            raise DpauditError(f"{spec} has {len(inputs)} {of}inputs and {len(targets)} {of}targets")
    held_out = tuple(_moved(tensor, device, dtype) for tensor in tensors[2:])
    test = (held_out[0], held_out[1]) if held_out else None
    return _of_tensors(tensors[0], tensors[1], device, dtype, file.model.classes, test)


def build_model(file: TrainingFile, records: Records, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Build the model that a training file names.

    Raises:
      DpauditError: there is none, or a packaged one does not fit the data.
    """
    choice = file.model
    if choice.file is not None:
        found = _from_file(choice.file, file.path)
        if not isinstance(found, nn.Module) and callable(found):
            with user_code(f"call {choice.file}", keep_stdout=False):
                found = found()
        if not isinstance(found, nn.Module):
            raise DpauditError(f"{choice.file} gives a {type(found).__name__}, not a torch.nn.Module")
        return found.to(device, dtype)
    model = packaged_model(
        str(choice.name), records.shape, records.classes, width=choice.width, depth=choice.depth
    )
    return model.to(device, dtype)


def find_loss(choice: ModelChoice, path: Path | None) -> Loss:
    """Give the loss of that name, or from a file: one value for each record.

    Raises:
      DpauditError: there is none.
    """
    if choice.loss in _LOSSES:
        return _LOSSES[choice.loss]
    if ".py" not in choice.loss:
        hint = nearest_name(choice.loss, _LOSSES) or f"Known: {', '.join(_LOSSES)}; or file.py:name."
        raise DpauditError(f"unknown loss {choice.loss!r}", hint)
    found = _from_file(choice.loss, path)
    if not callable(found):
        raise DpauditError(f"{choice.loss} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def make_optimizer(settings: TrainingSettings, model: nn.Module) -> torch.optim.Optimizer:
    """Make the optimizer over the trainable parameters.

    Raises:
      DpauditError: there are none, or an option is not one of this optimizer.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise DpauditError("the model has no trainable parameters", "Unfreeze some, with requires_grad_().")
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=settings.momentum, weight_decay=decay)
    if settings.momentum:
        raise DpauditError(f"optimizer {settings.optimizer!r} takes no momentum")
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(trained, lr=rate, weight_decay=decay)


def dtype_of(name: str) -> torch.dtype:
    """Give the number format of that name."""
    return _DTYPES[name]


def _of_tensors(
    inputs: Tensor, targets: Tensor, device: torch.device, dtype: torch.dtype, classes: int | None,
    test: tuple[Tensor, Tensor] | None,
) -> Records:  # fmt: skip
    inputs, targets = _moved(inputs, device, dtype), _moved(targets, device, dtype)
    if targets.dtype in (torch.int8, torch.int16, torch.int32, torch.uint8):
        targets = targets.long()  # class numbers, as losses want them

    def fetch(numbers: Tensor) -> tuple[Tensor, Tensor]:
        numbers = numbers.to(device)
        return inputs[numbers], targets[numbers]

    return Records(len(inputs), fetch, inputs.shape[1:], classes, test)


def _of_data_set(found: Dataset[Any], spec: str, device: torch.device, dtype: torch.dtype) -> Records:
    if not isinstance(found, Sized):
        raise DpauditError(f"{spec} is a data set without a length", "Give a map-style data set.")
    fetch = fetch_from(found)
    return Records(len(found), lambda numbers: _to_device(fetch(numbers), device, dtype), None, None, None)


def _as_rows(found: Any, spec: str) -> Tensor:
    try:
        tensor = found if isinstance(found, Tensor) else torch.as_tensor(np.asarray(found))
    except (TypeError, ValueError) as error:
        raise DpauditError(f"{spec} has values that make no tensor: {error}") from error
    if not tensor.dim():
        raise DpauditError(f"{spec} has a single number in the place of one row for each record")
    return tensor


def _moved(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)


def _to_device(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return _moved(value, device, dtype)
    if isinstance(value, dict):
        return {name: _to_device(part, device, dtype) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_to_device(part, device, dtype) for part in value)
    return value


def _from_file(spec: str, beside: Path | None) -> Any:
    """Get `name` of `file.py:name`; the file is looked for beside the training file."""
    file, _, name = spec.partition(":")
    if not file.endswith(".py") or not name:
        raise DpauditError(f"cannot read {spec!r}", "Write file.py:name, or file.py:name(arg=1).")
    path = Path(file) if beside is None else beside.parent / file
    if not path.is_file():
        raise DpauditError(f"no such file: {path}")
    return evaluate(name, import_file(path), file)


def _cross_entropy(outputs: Any, targets: Any) -> Tensor:
    return F.cross_entropy(outputs, targets, reduction="none")


def _squared_error(outputs: Any, targets: Any) -> Tensor:
    wrong: Tensor = (outputs - targets.view_as(outputs)).square()
    return wrong.flatten(1).mean(1) if wrong.dim() > 1 else wrong


_LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "squared_error": _squared_error}
