"""The places of Keras that an audited program passes through: optimizers, arrays, single batches."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.executions import STEPS, executions_of
from dpaudit.instrument.script.session import Session, Tap
from dpaudit.instrument.script.tf_datasets import Pipeline
from dpaudit.instrument.script.wrapping import Wrappings


class KerasPatches:
    """Installed while a program runs, and taken back after it; Keras 3, and Keras 2 as in TensorFlow 2.15."""

    library = "keras"

    def __init__(self, session: Session, _: ClaimLog) -> None:
        self._session = session
        self._executions = executions_of(session)
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove
        self._applying = 0
        self._backend = "tensorflow"

    def install(self) -> None:
        """Patch Keras."""
        library = importlib.import_module(self.library)
        if str(library.__version__).startswith("3"):
            self._install_keras_3(library)
        else:
            self._install_keras_2()

    def _install_keras_3(self, library: Any) -> None:
        from keras.src.optimizers.base_optimizer import BaseOptimizer
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        self._backend = library.backend.backend()
        self._wrappings.wrap_below(BaseOptimizer, "apply", self._apply)
        self._wrappings.wrap(ArrayDataAdapter, "get_tf_dataset", self._of_arrays)
        if self._backend == "tensorflow":
            from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

            self._wrappings.wrap(TensorFlowTrainer, "train_on_batch", self._one_batch)

    def _install_keras_2(self) -> None:
        def part(name: str) -> Any:
            return importlib.import_module(f"{self.library}.src.{name}")

        wrap = self._wrappings.wrap
        self._wrappings.wrap_below(part("optimizers.optimizer")._BaseOptimizer, "apply_gradients", self._apply)
        old = part("optimizers.legacy.optimizer_v2").OptimizerV2
        self._wrappings.wrap_below(old, "apply_gradients", self._apply)
        wrap(part("engine.data_adapter").TensorLikeDataAdapter, "get_dataset", self._of_arrays)
        wrap(part("engine.data_adapter").TensorLikeDataAdapter, "__init__", self._arrays)
        wrap(part("engine.training").Model, "train_on_batch", self._one_batch)

    # Optimizers

    def _apply(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if self._applying or self._is_stateless():
            return original(optimizer, *args, **kwargs)
        executions = self._executions
        eager = self._is_eager()
        self._session.guarded(lambda: self._prepare(optimizer, eager))
        self._applying += 1
        executions.depth += eager  # functions that it calls are parts of the step
        try:
            return original(optimizer, *args, **kwargs)
        finally:
            executions.depth -= eager
            self._applying -= 1
            if eager and not executions.depth:
                self._session.guarded(executions.settle)

    def _prepare(self, optimizer: Any, eager: bool) -> None:
        if self._backend != "tensorflow":
            self._executions.count(optimizer)
            return
        import tensorflow as tf

        from dpaudit.instrument.script.tensorflow_patches import able

        if not eager:
            able(STEPS)
        with tf.init_scope():
            self._executions.count(optimizer)

    def _is_eager(self) -> bool:
        return self._backend != "tensorflow" or bool(sys.modules["tensorflow"].executing_eagerly())

    def _is_stateless(self) -> bool:
        scope = sys.modules.get("keras.src.backend.common.stateless_scope")
        return scope is not None and bool(scope.in_stateless_scope())

    # Batches

    def _arrays(self, original: Any, adapter: Any, x: Any, *args: Any, **kwargs: Any) -> None:
        original(adapter, x, *args, **kwargs)
        size = kwargs.get("batch_size")
        self._session.guarded(lambda: self._describe(adapter.get_dataset(), x, size))

    def _of_arrays(self, original: Any, adapter: Any, *args: Any, **kwargs: Any) -> Any:
        dataset = original(adapter, *args, **kwargs)
        if hasattr(adapter, "_num_samples"):
            self._session.guarded(lambda: self._describe(dataset, adapter._inputs, adapter._batch_size))
        return dataset

    def _describe(self, dataset: Any, arrays: Any, batch_size: int | None) -> None:
        first = _first(arrays)
        facts = LoaderFacts(
            loader="Keras' arrays",
            dataset=type(first).__name__,
            num_records=int(first.shape[0]),
            batch_size=batch_size,
        )
        self._executions.described[dataset] = Pipeline(first, facts)

    def _one_batch(self, original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        executions = self._executions
        executions.only = Pipeline(model, LoaderFacts(loader="train_on_batch", dataset=type(model).__name__))
        try:
            if hasattr(model, "_symbolic_build"):  # Keras 3, which makes no data set of the batch
                self._session.guarded(lambda: self._given(*args, **kwargs))
            return original(model, *args, **kwargs)
        finally:
            executions.only = None

    def _given(self, x: Any, y: Any = None, sample_weight: Any = None, *_: Any, **__: Any) -> None:
        executions = self._executions
        assert executions.only is not None
        tap: Tap = self._session.open_tap_by_content(executions.only.root, executions.only.facts)
        tap.started = tap.feed.current
        executions.forget()
        columns = [np.asarray(one) for one in _leaves((x, y, sample_weight))]
        executions.taken(tap, executions.read(tap, columns))


class TfKerasPatches(KerasPatches):
    """The same for Keras 2 under the name that it has beside Keras 3."""

    library = "tf_keras"


def _leaves(nested: Any) -> list[Any]:
    if isinstance(nested, dict):
        return [leaf for key in sorted(nested) for leaf in _leaves(nested[key])]
    if isinstance(nested, (list, tuple)):
        return [leaf for one in nested for leaf in _leaves(one)]
    return [] if nested is None else [nested]


def _first(nested: Any) -> Any:
    return _leaves(nested)[0]
