"""Test the steps of a running program against its claim, as soon as there is one; and what that bears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy.typing as npt

from dpaudit.audit.following import with_refutation
from dpaudit.audit.live import refutation
from dpaudit.audit.script_claim import dominant
from dpaudit.audit_report import AuditReport
from dpaudit.claim import PrivacyClaim
from dpaudit.errors import ClaimError
from dpaudit.instrument.facts import LoaderFacts
from dpaudit.instrument.script import ClaimLog, ScriptRun, StepTest
from dpaudit.scheme import Poisson

if TYPE_CHECKING:
    from dpaudit.sampling import MonitorState, SamplingMonitor

NO_CLAIM = "no claim to test against so far (no --sampling-rate, no accountant asked): nothing is tested yet"
_UNAMPLIFIED = "the accountant assumes no sampling, so that there is no rate to test"


def require_poisson(given: PrivacyClaim) -> None:
    """Refuse a claim that no test can follow, before the program is run.

    Raises:
      ClaimError: it is of other than Poisson sampling.
    """
    if given.scheme is not None and not isinstance(given.scheme, Poisson):
        raise ClaimError(
            f"only a claim of Poisson sampling can be tested as it runs, not {type(given.scheme).__name__}",
            "Leave --follow out: the whole run is audited at its end.",
        )


class LiveTest:
    """A monitor of one training, at the rate that was claimed when it began."""

    def __init__(self, monitor: SamplingMonitor) -> None:
        self.monitor = monitor

    @property
    def refuted(self) -> bool:
        """Whether the claim is refuted."""
        return self.monitor.state.refuted

    def update(self, batch: npt.ArrayLike) -> None:
        """Take the batch of the next step."""
        if not self.refuted:
            self.monitor.update(batch)

    def start_pass(self) -> None:
        """Learn that the loader is iterated anew."""
        self.monitor.start_pass()


class ProgramTest:
    """Makes the tests of a program, and tells how they go.

    Args:
      claims: what the program says of its privacy, as it runs.
      given: what the user claims; it wins.
      significance: of each test, in (0, 1).
      stop: whether a refutation ends the program.
      tell: called with the state after each step.
      say: called with a sentence for whoever watches.
    """

    def __init__(
        self,
        claims: ClaimLog,
        given: PrivacyClaim,
        *,
        significance: float,
        stop: bool,
        tell: Callable[[MonitorState], None],
        say: Callable[[str], None],
    ) -> None:
        self.stop = stop
        self._claims, self._given, self._significance = claims, given, significance
        self._tell, self._say = tell, say
        self._said: set[str] = set()
        self._refuted = False

    def may_begin(self, facts: LoaderFacts) -> bool:
        """Tell whether there is a claim of Poisson sampling by now."""
        return self._rate(facts) is not None

    def begin(self, num_records: int | None, facts: LoaderFacts) -> StepTest | None:
        """Make a test at the rate that is claimed by now."""
        from dpaudit.sampling import SamplingMonitor

        rate = self._rate(facts)
        if rate is None:
            return None
        if num_records is None:
            self.cannot("the number of records is unknown; state it: --num-records")
            return None
        self._refuted = False
        return LiveTest(SamplingMonitor(num_records, rate, self._significance))

    def stepped(self, test: StepTest) -> None:
        """Tell the state, and a refutation once."""
        assert isinstance(test, LiveTest)
        if self._refuted:
            return
        self._tell(test.monitor.state)
        if test.refuted:
            self._refuted = True
            self._say(refutation(test.monitor))

    def withdrawn(self) -> None:
        """Take back what was told."""
        self._refuted = False
        self._say("the refutation is withdrawn: batches go together with steps in another way than it seemed")

    def cannot(self, why: str) -> None:
        """Say once why there is no test."""
        if why not in self._said:
            self._said.add(why)
            self._say(f"not tested while it runs: {why}; the whole run is audited at its end")

    def _rate(self, facts: LoaderFacts) -> float | None:
        """Give the rate that is claimed by now; None: there is none, or it is no sampling."""
        if isinstance(self._given.scheme, Poisson):
            return self._given.scheme.rate
        read = self._claims.read()
        rate = dominant(read, read.accounted)[0]
        if rate is None and (self._given.epsilon is not None or self._given.noise_multiplier is not None):
            rate = facts.sampling_rate
        if rate is None and "claim" not in self._said:
            self._said.add("claim")
            self._say(NO_CLAIM)
        if rate == 1:
            self.cannot(_UNAMPLIFIED)
            return None
        return rate


def with_live_test(report: AuditReport, run: ScriptRun, significance: float) -> AuditReport:
    """Let what was found while the program ran bear on the report, where it was the same steps and claim.

    Args:
      report: of the whole run, its tests at `significance`.
      run: of the program.
      significance: of the live test.
    """
    if run.live is None:
        note = "Nothing could be tested while the program ran: no claim, or no steps, that a live test takes."
        return replace(report, notes=(*report.notes, note))
    assert isinstance(run.live.test, LiveTest)
    monitor = run.live.test.monitor
    observed = report.evidence.observed
    claimed = None if observed is None else observed.rate.claimed
    poisson = report.claim.scheme is None or isinstance(report.claim.scheme, Poisson)
    if run.claim.unread or run.unjudgeable or not poisson:
        why = (
            "of such a program there is no verdict"
            if run.unjudgeable
            else "not all that the accountant was told of is Poisson sampling"
        )
        return replace(report, notes=(*report.notes, f"The test that ran along does not count: {why}."))
    if not run.live.agrees or claimed is None or abs(claimed - monitor.sampling_rate) > 1e-12 * claimed:
        why = (
            "the whole run shows that its steps held other batches"
            if not run.live.agrees
            else "another sampling rate is claimed at the end"
        )
        note = f"ATTENTION: the test that ran along does not count: {why}."
        return replace(report, notes=(*report.notes, note))
    note = (
        f"Steps were tested as they came, at significance {significance:g}: p-value "
        f"{monitor.state.p_value:.3g} after {monitor.state.steps} steps. The tests of the whole run had the "
        "same significance."
    )
    report = replace(report, notes=(*report.notes, note))
    return with_refutation(report, monitor) if monitor.state.refuted else report
