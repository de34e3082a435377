"""Report what a program does in JAX, also where it is compiled and run by JAX alone.

The compiled program computes the same to the last bit: what is added gives nothing back. It is run where
the step is: not in a branch that is not taken, and as often as a loop goes round.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dpaudit.instrument.script.session import Session
from dpaudit.instrument.script.step_names import RELEASE


def listen(session: Session) -> None:
    """Let a session wait for compiled code before it takes in its steps."""
    session.late.wait = jax.effects_barrier
    session.late.devices = jax.device_count


def report_step(session: Session, result: Any, name: str) -> None:
    """Report a step now; while code is being compiled, at each run of what is compiled.

    Args:
      session: gets the report.
      result: of the step: noisy gradients or new parameters; its shape tells models apart.
      name: of what makes the step.
    """
    leaves, structure = jax.tree_util.tree_flatten(result)
    shape = (structure, tuple(jnp.shape(leaf) for leaf in leaves))
    tell = functools.partial(session.late.tell, session.late.optimizer(name, shape))
    if _is_compiling(leaves):
        jax.debug.callback(tell)
    else:
        tell()


def with_begins(session: Session, begin: Callable[..., Any]) -> Callable[..., Any]:
    """Let what makes the state of an optimizer report that a training may begin."""

    @functools.wraps(begin)
    def init(*args: Any, **kwargs: Any) -> Any:
        state = begin(*args, **kwargs)

        def report() -> None:
            if _is_compiling((args, kwargs, state)):
                jax.debug.callback(session.late.tell_begun)
            else:
                session.late.tell_begun()

        session.guarded(report)
        return state

    return init


def with_reports(session: Session, transformation: Any) -> Any:
    """Let a transformation that adds noise report each of its updates."""

    @functools.wraps(transformation.update)
    def update(*args: Any, **kwargs: Any) -> Any:
        done = transformation.update(*args, **kwargs)
        session.guarded(lambda: report_step(session, done[0], RELEASE))
        return done

    return transformation._replace(update=update)


def with_counts(session: Session, clipped: Any, batch_argument: int) -> Any:
    """Let a function that sums clipped gradients report of how many records; places of padding do not count.

    Args:
      session: gets the reports.
      clipped: jax_privacy's BoundedSensitivityCallable.
      batch_argument: position of an argument that has the records along its first axis.
    """

    def count(args: tuple[Any, ...], padding: Any) -> None:
        places = jnp.shape(jax.tree_util.tree_leaves(args[batch_argument])[0])[0]
        records = places if padding is None else places - jnp.sum(padding)
        if _is_compiling((args, records)):
            jax.debug.callback(session.late.tell_clipped, records)
        else:
            session.late.tell_clipped(records)

    run: Callable[..., Any] = clipped.fun

    @functools.wraps(run)
    def counted(*args: Any, **kwargs: Any) -> Any:
        done = run(*args, **kwargs)
        session.guarded(lambda: count(args, kwargs.get("is_padding_example")))
        return done

    return dataclasses.replace(clipped, fun=counted)


def _is_compiling(values: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree_util.tree_leaves(values))
