"""`dpaudit.watch`: a loader iterated by its owner, recorded, and tested against its claim as it runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dpaudit.claim import PrivacyClaim
from dpaudit.errors import ClaimError, SamplingRefutedError
from dpaudit.instrument import watch as watch_only
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.monitoring import LiveRecorder
from dpaudit.instrument.result import Labels
from dpaudit.scheme import Poisson, SamplingScheme

if TYPE_CHECKING:
    from dpaudit.sampling import MonitorState, SamplingMonitor

_LOG = logging.getLogger("dpaudit")


def watch(
    loader: Any,
    *,
    claim: PrivacyClaim | Poisson | SamplingMonitor | None = None,
    stop_on: str | None = None,
    on_refuted: Callable[[MonitorState], None] | None = None,
    significance: float = 1e-3,
    stream: str | os.PathLike[str] | None = None,
    num_records: int | None = None,
    labels: Labels | None = None,
    method: Method | None = None,
) -> Any:
    """Wrap a loader so that iterating it leaves a trace, or tests its claim, or both.

    The wrapper gives the same batches in the same order, draws the same random numbers, and for a
    DataLoader is of a subclass of its class with the same attributes. Records are read once, by the
    user's own data set. Each delivered batch counts as one optimizer step.

    With a claim, every batch is tested as it comes (`dpaudit.sampling.SamplingMonitor`), in 16 bytes
    a record. If sampling is as claimed, it is ever refuted with probability at most `significance`,
    however long the training runs. A failure of the recording or of the test is logged once (logger
    "dpaudit") and ends them, not the training.

    Args:
      loader: a torch DataLoader, a BatchSampler, or an iterable of lists of record numbers.
      claim: Poisson sampling at a rate; a PrivacyClaim without a scheme takes the loader's own rate. Or
        a SamplingMonitor that goes on, as after a checkpoint; its own significance holds.
      stop_on: "refuted": raise SamplingRefutedError in place of the batch that refutes the claim; None: log.
      on_refuted: called once with the state at that batch, instead of the above; what it raises
        reaches the training loop.
      significance: of the test, in (0, 1).
      stream: path of a new directory to which the trace is written as it grows, in place of memory.
      num_records: N; None takes it from the claim or the data set.
      labels: of each row of the data set, shape (rows,).
      method: CARRIED, NEXT_INDEX or FINGERPRINT; None chooses.

    Returns:
      The wrapper, with `.trace()` (SamplingTrace so far), `.recording()` (with method and notes) and,
      with a claim, `.monitor` (SamplingMonitor; its `.state` tells what is known so far). A claim
      without `stream` keeps no trace.

    Raises:
      TargetError: not a loader, one that cannot be watched, or N is unknown.
      ClaimError: the claim is not of Poisson sampling, or has no rate and the loader tells none.
      ValueError: `stop_on` is none of the above, or asked for without a claim.
    """
    if stop_on not in (None, "refuted"):
        raise ValueError(f'expected stop_on "refuted" or None, got {stop_on!r}')
    if claim is None:
        if stop_on is not None or on_refuted is not None:
            raise ValueError("stop_on and on_refuted need a claim")
        recorder = None if stream is None else LiveRecorder(stream=stream)
        return watch_only(loader, num_records=num_records, labels=labels, method=method, recorder=recorder)
    tests: list[LiveTest] = []

    def listen(records: int, facts: LoaderFacts) -> LiveTest:
        monitor = _monitor(claim, records, facts.sampling_rate, significance)
        tests.append(LiveTest(monitor, stop=stop_on is not None, on_refuted=on_refuted))
        return tests[0]

    watched = watch_only(
        loader,
        num_records=num_records or getattr(claim, "num_records", None),
        labels=labels,
        method=method,
        recorder=LiveRecorder(stream=stream, listen=listen),
    )
    object.__setattr__(watched, "monitor", tests[0].monitor)  # a DataLoader guards its attributes
    return watched


def _monitor(
    claim: PrivacyClaim | Poisson | SamplingMonitor, records: int, assumed: float | None, significance: float
) -> SamplingMonitor:
    """Make the monitor of a claim, or go on with the one given."""
    from dpaudit.sampling import SamplingMonitor

    if not isinstance(claim, SamplingMonitor):
        return SamplingMonitor(records, claimed_rate(claim, assumed), significance)
    if claim.num_records != records:
        raise ClaimError(f"the monitor is of {claim.num_records} records, the loader has {records}")
    return claim


def claimed_rate(claim: PrivacyClaim | SamplingScheme, assumed: float | None) -> float:
    """Give the rate of the Poisson sampling that a claim speaks of.

    Args:
      claim: where it names no scheme, Poisson sampling at the assumed rate is meant.
      assumed: None: unknown.

    Raises:
      ClaimError: another scheme, or no rate.
    """
    scheme = claim.scheme if isinstance(claim, PrivacyClaim) else claim
    match scheme:
        case Poisson(rate=rate):
            return rate
        case None if assumed is not None:
            return assumed
        case None:
            raise ClaimError(
                "the claim has no sampling rate, and the loader tells none",
                "Claim dpaudit.Poisson(rate), or --sampling-rate.",
            )
    raise ClaimError(
        f"only a claim of Poisson sampling can be tested as it runs, not {type(scheme).__name__}",
        "Record the loader and audit the trace.",
    )


class LiveTest:
    """Feeds a monitor, and acts once when it refutes."""

    def __init__(
        self, monitor: SamplingMonitor, *, stop: bool, on_refuted: Callable[[MonitorState], None] | None
    ) -> None:
        self.monitor = monitor
        self._stop = stop
        self._on_refuted = on_refuted
        self._ended = False

    def update(self, batch: npt.NDArray[np.integer[Any]]) -> None:
        """Take the batch of one step.

        Raises:
          SamplingRefutedError: the claim is refuted, for the first time, and that is to stop the training.
        """
        if self._ended:
            return
        try:
            was, state = self.monitor.state.refuted, self.monitor.update(batch)
        except Exception as error:
            self._ended = True
            _LOG.warning("dpaudit stopped testing after %d steps: %s", self.monitor.state.steps, error)
            return
        if was or not state.refuted:
            return
        if self._on_refuted is not None:
            self._on_refuted(state)
        elif self._stop:
            raise SamplingRefutedError(refutation(self.monitor), _ADVICE.format(state.rule))
        else:
            _LOG.warning("dpaudit: %s", refutation(self.monitor))

    def start_pass(self) -> None:
        """Learn that the loader is iterated anew."""
        self.monitor.start_pass()

    def start_run(self) -> None:
        """Learn that the next batch is the first of a new run."""
        self.monitor.start_run()


_ADVICE = "Batches are not drawn as the accountant assumes: dpaudit explain {}."


def refutation(monitor: SamplingMonitor) -> str:
    """Say in one sentence what was refuted, when, and by what."""
    state = monitor.state
    return (
        f"Poisson sampling at rate {monitor.sampling_rate:.6g} of {monitor.num_records} records is refuted "
        f"at step {state.steps} by the {state.leading} ({state.rule}; p-value {state.p_value:.2g}, valid at "
        "every step)"
    )
