"""The few places of torch that an audited program passes through: iterators, backward, optimizer steps."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from dpaudit.instrument.carried import CarryingDataset, FingerprintingDataset
from dpaudit.instrument.methods import Method
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.iterators import attach, is_torch_iterator, remember_sent
from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.taps import Handover
from dpaudit.instrument.script.wrapping import Wrappings, family
from dpaudit.instrument.torch_loader import is_pipe, stand_in


class TorchPatches:
    """Installed while a program runs, and taken back after it; nothing in user objects is touched."""

    def __init__(self, session: Session, _: ClaimLog) -> None:
        self._session = session
        self._wrappings = Wrappings()
        self.remove = self._wrappings.remove
        self._remembering = 0

    def install(self) -> None:
        """Patch torch."""
        session, wrappings = self._session, self._wrappings

        def stepped(optimizer: Any, *_: Any) -> None:
            if not session.in_group:  # joined before it was watched, in a process that was spawned
                session.guarded(self._note_group)
            # Fused optimizers are told by a gradient scaler to change nothing.
            vain = session.guarded(lambda: _found_inf(getattr(optimizer, "found_inf", None)))
            session.guarded(lambda: session.skipped(optimizer) if vain else session.stepped(optimizer))

        def differentiate(original: Any, *args: Any, **kwargs: Any) -> Any:
            session.guarded(session.backward)
            return original(*args, **kwargs)

        wrappings.then(register_optimizer_step_post_hook(stepped).remove)
        wrappings.wrap(torch.autograd, "backward", differentiate)
        wrappings.wrap(torch.autograd, "grad", differentiate)
        if "_maybe_opt_step" in vars(torch.amp.GradScaler):
            wrappings.wrap(torch.amp.GradScaler, "_maybe_opt_step", self._scaled_step)
        wrappings.wrap(_BaseDataLoaderIter, "_next_index", self._next_index)
        if torch.distributed.is_available():
            wrappings.wrap(torch.distributed, "init_process_group", self._join_group)
            wrappings.wrap(torch.nn.parallel.DistributedDataParallel, "__init__", self._wrap_model)
        for kind in family(DataLoader):
            self._patch_class(kind)
        wrappings.replace(DataLoader, "__init_subclass__", classmethod(self._on_new_class))

    def _scaled_step(
        self, original: Any, scaler: Any, optimizer: Any, state: Any, *args: Any, **named: Any
    ) -> Any:
        before = sum(self._session.all_steps.values())
        done = original(scaler, optimizer, state, *args, **named)

        def note() -> None:
            made = sum(self._session.all_steps.values()) > before
            if not made and any(map(_found_inf, state["found_inf_per_device"].values())):
                self._session.skipped(optimizer)

        self._session.guarded(note)
        return done

    def _join_group(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(*args, **kwargs)
        self._session.guarded(self._note_group)
        return done

    def _note_group(self) -> None:
        group = torch.distributed
        if group.is_available() and group.is_initialized():
            self._session.joined(group.get_rank(), group.get_world_size())

    def _wrap_model(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        self._session.data_parallel = True
        return original(*args, **kwargs)

    def _on_new_class(self, kind: Any, /, **options: Any) -> None:
        super(DataLoader, kind).__init_subclass__(**options)  # type: ignore[misc]
        if self._session.recording:
            self._patch_class(kind)

    def _patch_class(self, kind: Any) -> None:
        own = vars(kind)
        if "_get_iterator" in own:
            around = self._get_iterator if kind is DataLoader else self._get_foreign_iterator
            self._wrappings.wrap(kind, "_get_iterator", around)
        if "__iter__" in own and kind is not DataLoader:
            self._wrappings.wrap(kind, "__iter__", self._iterate)

    def _get_foreign_iterator(self, original: Any, loader: Any) -> Any:
        return self._get_iterator(original, loader, foreign=True)

    def _get_iterator(self, original: Any, loader: Any, foreign: bool = False) -> Any:
        session = self._session
        plan = session.guarded(lambda: _plan(loader, foreign))
        if plan is None:
            return original(loader)
        method, whole = plan
        tap = session.guarded(lambda: session.open_tap(loader, method))
        source = None if tap is None else session.guarded(lambda: _source(loader, method, whole))
        if tap is None or source is None:
            return original(loader)
        self._remembering += method is Method.NEXT_INDEX
        try:
            iterator = original(source)
        finally:
            self._remembering -= method is Method.NEXT_INDEX
        # A class that builds upon torch's own `_get_iterator` has its tap from there.
        if is_torch_iterator(iterator) and not hasattr(iterator, "_dpaudit_tap"):
            attach(iterator, session, tap, method, whole)
        return iterator

    def _next_index(self, original: Any, iterator: Any) -> Any:
        indices = original(iterator)
        if self._remembering or "_dpaudit_sent" in iterator.__dict__:
            remember_sent(iterator, indices)
        return indices

    def _iterate(self, original: Any, loader: Any) -> Any:
        batches = original(loader)
        return _relay(self._session, batches) if inspect.isgenerator(batches) else batches


def _found_inf(found: Any) -> bool:
    if found is None or (found.is_cuda and torch.cuda.is_current_stream_capturing()):
        return False  # while a CUDA graph is captured there is no value yet, and asking for it would break it
    return bool(found.item())


def _plan(loader: Any, foreign: bool) -> tuple[Method, bool] | None:
    """Choose how the records of a loader are told, and whether from whole batches; None: not at all."""
    dataset = loader.dataset
    if isinstance(dataset, (CarryingDataset, FingerprintingDataset)):
        return None  # somebody watches it already
    pipe = is_pipe(dataset)
    if pipe == "iter":
        return Method.FINGERPRINT, True
    if isinstance(dataset, IterableDataset):
        return Method.FINGERPRINT, foreign or loader.batch_size is None
    return (Method.NEXT_INDEX if foreign or pipe else Method.CARRIED), False


def _source(loader: Any, method: Method, whole: bool) -> Any:
    """Give what torch's iterator is built from: the loader, or its stand-in that carries numbers."""
    return loader if whole or method is Method.NEXT_INDEX else stand_in(loader, method)


def _relay(session: Session, batches: Iterator[Any]) -> Iterator[Any]:
    handover = Handover()
    try:
        while True:
            stack = session.handovers
            stack.append(handover)
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                stack.pop()
            session.guarded(lambda batch=batch: session.handed_on(handover, batch))  # type: ignore[misc]
            yield batch
    finally:
        if handover.started is not None:
            handover.started.finished = True
        batches.close()  # type: ignore[attr-defined]
