"""The places of Keras that an audited program passes through: optimizers, arrays, single batches."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.executions import STEPS, end, executions_of
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.tf_datasets import ARRAYS, SINGLE, Pipeline
from dpaudit.instrument.script.wrapping import Wrappings


class KerasPatches:
    """Installed while a program runs, and taken back after it; Keras 3, and Keras 2 as in TensorFlow 2.15.

    Args:
      library: name under which Keras was imported.
    """

    def __init__(self, session: Session, _: ClaimLog, library: str = "keras") -> None:
        self._session = session
        self._library = library
        self._executions = executions_of(session)
        self._wrappings = Wrappings()
        self._wrappings.then(lambda: end(session))
        self.remove = self._wrappings.remove
        self._applying = 0
        self._tf: Any = None  # Keras may run on another library, and TensorFlow not be there

    def install(self) -> None:
        """Patch Keras."""
        library = importlib.import_module(self._library)
        is_new = str(library.__version__).startswith("3")
        if is_new and library.backend.backend() != "tensorflow":
            return
        self._tf = importlib.import_module("tensorflow")
        if is_new:
            self._install_keras_3()
        else:
            self._install_keras_2()

    def _install_keras_3(self) -> None:
        from keras.src.backend.tensorflow.trainer import TensorFlowTrainer
        from keras.src.optimizers.base_optimizer import BaseOptimizer
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        self._follow(BaseOptimizer, "apply")
        self._wrappings.wrap(ArrayDataAdapter, "get_tf_dataset", self._of_arrays)
        self._wrappings.wrap(TensorFlowTrainer, "train_on_batch", self._one_batch)

    def _install_keras_2(self) -> None:
        def part(name: str) -> Any:
            return importlib.import_module(f"{self._library}.src.{name}")

        self._follow(part("optimizers.optimizer")._BaseOptimizer, "apply_gradients")
        self._follow(part("optimizers.legacy.optimizer_v2").OptimizerV2, "apply_gradients")
        self._wrappings.wrap(part("engine.data_adapter").TensorLikeDataAdapter, "__init__", self._arrays)
        self._wrappings.wrap(part("engine.training").Model, "train_on_batch", self._one_batch)

    # Optimizers

    def _follow(self, kind: Any, name: str) -> None:
        """Follow all optimizers, also those of classes that the program makes."""
        self._wrappings.wrap_below(kind, name, self._apply)
        before = vars(kind).get("__init_subclass__")

        def on_new_class(below: Any, /, **options: Any) -> None:
            if before is None:
                super(kind, below).__init_subclass__(**options)
            else:
                before.__get__(None, below)(**options)
            if self._session.recording and name in vars(below):
                self._wrappings.wrap(below, name, self._apply)

        self._wrappings.replace(kind, "__init_subclass__", classmethod(on_new_class))

    def _apply(self, original: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if self._applying:
            return original(optimizer, *args, **kwargs)
        executions, eager = self._executions, self._tf.executing_eagerly()
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
        if not eager:
            from dpaudit.instrument.script.tensorflow_patches import able

            able(STEPS)
        with self._tf.init_scope():
            self._executions.count(optimizer)

    # Batches

    def _of_arrays(self, original: Any, adapter: Any, *args: Any, **kwargs: Any) -> Any:
        dataset = original(adapter, *args, **kwargs)
        size = int(adapter._batch_size)
        self._session.guarded(lambda: self._describe(dataset, adapter._inputs, size))
        return dataset

    def _arrays(self, original: Any, adapter: Any, x: Any, *args: Any, **kwargs: Any) -> None:
        original(adapter, x, *args, **kwargs)

        def note() -> None:  # one data set for all epochs
            self._describe(adapter.get_dataset(), x, int(adapter._batch_size), int(adapter.get_size()))

        self._session.guarded(note)

    def _describe(self, dataset: Any, arrays: Any, batch_size: int, length: int | None = None) -> None:
        first = self._tf.nest.flatten(arrays)[0]
        facts = LoaderFacts(
            loader=ARRAYS,
            dataset=type(first).__name__,
            num_records=int(first.shape[0]),
            batch_size=batch_size,
        )
        self._executions.described[dataset] = Pipeline(first, facts, length=length)

    def _one_batch(self, original: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        self._session.guarded(lambda: self._given(model, *args, **kwargs))
        with self._executions.given():
            return original(model, *args, **kwargs)

    def _given(
        self, model: Any, x: Any, y: Any = None, sample_weight: Any = None, *_: Any, **__: Any
    ) -> None:
        facts = LoaderFacts(loader=SINGLE, dataset=type(model).__name__)
        tap = self._session.open_tap_by_content(model, facts)
        tap.started = tap.feed.current
        columns = [np.asarray(one) for one in self._tf.nest.flatten((x, y, sample_weight)) if one is not None]
        self._executions.taken(self._executions.read(tap, columns))


def tf_keras(session: Session, log: ClaimLog) -> KerasPatches:
    """Give the patches of Keras 2 under the name that it has beside Keras 3."""
    return KerasPatches(session, log, "tf_keras")
