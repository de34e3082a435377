"""The pytest plugin: claims as tests.

    def test_claim(dpaudit):
        dpaudit.check("audits/main.toml")

    def test_batches(dpaudit):
        dpaudit.sampler(make_loader(), sampling_rate=0.01)

pytest imports this file at every start, so it imports nothing but pytest: dpaudit itself comes with the
first audit.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dpaudit.audit.run import AuditDone, AuditResult
    from dpaudit.audit_report import AuditReport
    from dpaudit.config import Config
    from dpaudit.policy import GateFinding


class ClaimAuditor:
    """What the fixture `dpaudit` gives: audits that fail the test if the claim does not stand.

    Args:
      root: directory that claim files and the project's configuration are looked for in.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self, claim_file: str | Path) -> AuditReport:
        """Audit a claim file, in a process of its own, and hold it against the project's policy.

        Passes when the audit reaches the verdict that the file expects; without `expected`, or with
        "consistent", when verdict, policy and waivers of the project let it pass, as `dpaudit check` does.

        Args:
          claim_file: relative to pytest's root directory, or absolute.

        Raises:
          AssertionError: the claim does not stand; says why, and what to do.
          DpauditError: the file or the configuration is wrong, or the audit could not be made.
        """
        __tracebackhide__ = True
        from dpaudit.audit.kinds import plan_audit
        from dpaudit.audit.processes import run_audits
        from dpaudit.cli.checked import Checked, judge
        from dpaudit.config import read_config

        path = self._root / claim_file
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        plan, settings = plan_audit(path), read_config(self._root)
        waiting = _Waiting()
        run_audits([path], jobs=1, observer=waiting)
        done = _done(waiting.result, path)
        checked = Checked(path=path, expected=plan.expected, result=done, kept=False)
        result = judge((checked,), _for_one(settings, checked.name), today=date.today())
        if result.exit_code:
            raise AssertionError(_message(done.report, result.findings))
        return done.report

    def sampler(
        self,
        loader: Any,
        *,
        sampling_rate: float | None = None,
        steps: int | None = None,
        runs: int = 1,
        seed: int = 0,
        significance: float = 1e-3,
        **claim: Any,
    ) -> AuditReport:
        """Watch a loader in this process and test whether it samples as claimed.

        Args:
          loader: a DataLoader, a sampler, a function `batches(seed, steps)` or anything else that
            `dpaudit.record` reads.
          sampling_rate: claimed Poisson rate, in (0, 1]; or give `scheme`. Without either, the rate
            that the loader states is taken.
          steps: to watch; None: enough for a verdict.
          runs: recordings with different seeds.
          seed: of the first run.
          significance: family-wise error of the tests, in (0, 0.5].
          **claim: further fields of `dpaudit.PrivacyClaim`: epsilon, delta, noise_multiplier, epochs,
            scheme ...

        Raises:
          AssertionError: the verdict is not "consistent"; says why, and what to do.
        """
        __tracebackhide__ = True
        from dpaudit.audit.sampling import Subject, audit_sampling
        from dpaudit.claim import PrivacyClaim
        from dpaudit.instrument import capture
        from dpaudit.provenance import collect
        from dpaudit.scheme import Poisson
        from dpaudit.verdict import Outcome

        if sampling_rate is not None:
            if "scheme" in claim:
                raise ValueError("expected sampling_rate or scheme, got both")
            claim["scheme"] = Poisson(sampling_rate)
        stated = PrivacyClaim(**claim)
        recording = capture(loader, steps=steps, runs=runs, seed=seed, num_records=stated.num_records)
        name = type(loader).__name__
        report = audit_sampling(
            recording.trace,
            stated,
            subject=Subject(title=name, target=name, notes=recording.notes),
            provenance=collect(command=["pytest"], seed=seed),
            assumed_rate=recording.facts.sampling_rate,
            significance=significance,
            figure_seconds=0,
        )
        if report.verdict.outcome is not Outcome.CONSISTENT:
            raise AssertionError(_message(report, ()))
        return report


@pytest.fixture
def dpaudit(request: pytest.FixtureRequest) -> ClaimAuditor:
    """Audit differential-privacy claims: `dpaudit.check(claim_file)`, `dpaudit.sampler(loader)`."""
    return ClaimAuditor(request.config.rootpath)


class _Waiting:
    """Takes the result of the one audit."""

    result: AuditResult

    def started(self, claim: Path) -> None:
        pass

    def progress(self, claim: Path, done: int, wanted: int) -> None:
        pass

    def finished(self, claim: Path, result: AuditResult) -> None:
        self.result = result


def _for_one(settings: Config, audit: str) -> Config:
    """Leave what speaks of other audits to `dpaudit check`: which there must be, and their waivers."""
    gate = replace(settings.gate, required=(), rules={**settings.gate.rules, "DPA406": "off"})
    waivers = tuple(one for one in settings.waivers if one.audit in (None, audit))
    return replace(settings, gate=gate, waivers=waivers)


def _done(result: AuditResult, path: Path) -> AuditDone:
    __tracebackhide__ = True
    from dpaudit.audit.run import AuditFailed
    from dpaudit.errors import DpauditError

    if isinstance(result, AuditFailed):
        parts = (result.details.rstrip(), f"{path}: {result.message}", result.hint)
        raise DpauditError("\n".join(part for part in parts if part))
    return result


def _message(report: AuditReport, findings: tuple[GateFinding, ...]) -> str:
    from dpaudit.gate import finding_line
    from dpaudit.report.printable import printable
    from dpaudit.report.view import build_view

    view = build_view(report)
    lines = [f"{view.title}: {view.headline}", *view.reasons[:1]]
    lines += [finding_line(one) for one in findings if not one.sentence.endswith(view.reasons[:1])]
    lines += view.seen
    lines += [
        f"epsilon {row.role} ({row.scheme}): at least {row.lower}, at most {row.upper}"
        for row in view.epsilons
    ]
    lines += [f"How to fix it: {advice}" for advice in view.advice]
    return printable("\n".join(lines))
