"""Audit a claim by canaries: make the runs, test the mechanism, bound epsilon, decide."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpaudit.audit.canary_black_box import final_loss_scores
from dpaudit.audit.canary_bounds import Attack, Subject, attack_bounds
from dpaudit.audit.canary_file import CanaryFile
from dpaudit.audit.canary_plan import plan_of
from dpaudit.audit.canary_power import alternatives
from dpaudit.audit.canary_report import canary_report
from dpaudit.audit.canary_runs import Progress, forget, pledge, run_all
from dpaudit.audit.canary_setting import describe_runs, remark_on
from dpaudit.audit.canary_summary import mechanism_rows, summarise_scores
from dpaudit.audit.canary_tests import Releases, costs_privacy, mechanism_tests, releases_of
from dpaudit.audit.sampling import Subject as SamplingSubject
from dpaudit.audit.sampling import audit_sampling
from dpaudit.audit_report import AuditReport
from dpaudit.canary import AuditPlan, claim_gate, score_test
from dpaudit.canary.likelihood_ratio import log_likelihood_ratios
from dpaudit.canary.per_step import claimed_step
from dpaudit.canary_findings import CanaryEvidence, ScoreSummary
from dpaudit.claim import PrivacyClaim
from dpaudit.provenance import collect
from dpaudit.scores import CanaryScores
from dpaudit.trace import SamplingTrace

if TYPE_CHECKING:
    from dpaudit.dpsgd.canaries import RecordedRun, RunPlan

# Shares of the error: the sampler's tests, the mechanism's tests, the deciding bounds.
_SAMPLER, _TESTS, _BOUNDS = 0.2, 0.4, 0.4
_WHITE_BOX = ("area_under_curve", "run_level_student", "run_level_betting", "one_run_f_dp")
_INPUTS = ("run_level_student", "run_level_betting", "one_run_f_dp")
_ONE_RUN = ("one_run_f_dp",)
# From so many runs on Student's interval over runs is given; below, one run or a few are one big one.
_MANY_RUNS = 10
# From so many runs on the exact interval over runs is worth its share of the error.
_BETTING = 40
_BLACK_BOX = ("area_under_curve",)


def audit_canaries(
    file: CanaryFile,
    *,
    command: Sequence[str],
    progress: Progress | None = None,
    directory: Path | None = None,
    significance: float | None = None,
) -> AuditReport:
    """Run what a canary file asks for, and hold it against the claim.

    If every part of the claim is true, the verdict is REFUTED or UNSUPPORTED with probability at most the
    significance.

    Args:
      file: claim and settings.
      command: that asked for the audit, for the provenance.
      progress: called with (runs done, runs wanted).
      directory: finished runs are kept there until the audit is done; None keeps none.
      significance: level of this attempt, where reruns are counted; None: that of the settings.

    Raises:
      DpauditError: the claim does not name the mechanism, or a run failed.
    """
    settings = file.settings
    error = settings.significance if significance is None else significance
    claim = _complete(file.claim)
    plan = plan_of(file, claim)
    if directory is not None:
        plan = pledge(plan, directory, drawn=settings.seed is None)
    shares = tuple(error * share for share in (_SAMPLER, _TESTS, _BOUNDS))
    fingerprint = _fingerprint(plan, file, shares)
    runs = run_all(plan, settings.runs, jobs=settings.jobs, directory=directory, progress=progress)
    black_box = _black_box(plan, file, directory)
    sampling = audit_sampling(
        _trace(runs[0]),
        replace(claim, num_records=runs[0].num_records),
        subject=SamplingSubject(title=file.title, target=_target(plan)),
        provenance=collect(command=command, seed=plan.seed, inputs=[Path(name) for name in plan.sources]),
        significance=shares[0],
    )
    found = _weigh(runs, black_box, claim, plan, sampling, shares)
    evidence = replace(found, plan=fingerprint, family_wise_error=error)
    if directory is not None:
        forget(plan, settings.runs, directory)
    return canary_report(sampling, claim, evidence)


def _complete(claim: PrivacyClaim) -> PrivacyClaim:
    return replace(claim, delta=claim.delta or 1e-5, adjacency=claim.adjacency or "add_or_remove_one")


def _fingerprint(plan: RunPlan, file: CanaryFile, shares: tuple[float, ...]) -> str:
    """Hash every choice, before a run is made."""
    content = {
        "plan": plan.fingerprint(0),
        "claim": file.claim.to_json(),
        "estimators": [_WHITE_BOX, _INPUTS, _ONE_RUN, _BLACK_BOX],
        "choices": asdict(AuditPlan()),
        "shares": shares,
        "runs": [file.settings.runs, file.settings.black_box],
    }
    return "sha256:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _trace(run: RecordedRun) -> SamplingTrace:
    return SamplingTrace(indices=run.indices, offsets=run.offsets, num_records=run.num_records)


def _target(plan: RunPlan) -> str:
    trained = plan.train or f"reference DP-SGD, {plan.model}"
    return f"{trained} on {plan.data}"


def _black_box(plan: RunPlan, file: CanaryFile, directory: Path | None) -> CanaryScores | None:
    """Train the small models; none for a training of one's own, or with a fault that they do not have."""
    if (
        not file.settings.black_box
        or plan.train
        or plan.fault
        or plan.scheme["name"] not in ("poisson", "shuffle")
    ):
        return None
    return final_loss_scores(plan, file.settings.black_box, jobs=file.settings.jobs, directory=directory)


def likelihood_scores(runs: Sequence[RecordedRun], claim: PrivacyClaim) -> CanaryScores:
    """Score every canary that a coin decided on, in all runs, by its likelihood ratio under the claim."""
    step = claimed_step(claim)
    parts = [
        log_likelihood_ratios(
            run.value[:, run.tossed].astype(np.float64),
            rate=step.rate,
            noise_multiplier=step.noise_multiplier,
        )
        for run in runs
    ]
    return CanaryScores(
        included=np.concatenate([run.included[run.tossed] for run in runs]),
        score=np.concatenate(parts),
        run=np.repeat(np.arange(len(runs)), [len(part) for part in parts]),
        attack="likelihood ratio of all released updates",
    )


def _weigh(
    runs: Sequence[RecordedRun],
    black_box: CanaryScores | None,
    claim: PrivacyClaim,
    plan: RunPlan,
    sampling: AuditReport,
    shares: tuple[float, ...],
) -> CanaryEvidence:
    """Turn runs into evidence: tests, bounds, power, and what a report draws."""
    claimed = sampling.evidence.claimed
    adjacency = claim.adjacency if claimed is None else claimed.adjacency
    asked = replace(claim, steps=plan.steps, epochs=None, adjacency=adjacency)
    releases, scores = releases_of(runs), likelihood_scores(runs, asked)
    delta = claim.delta or 1e-5
    undecided = mechanism_tests(releases, asked)
    end_to_end = score_test(scores, asked, delta=delta)
    undecided = undecided if end_to_end is None else (*undecided, end_to_end)
    gate = claim_gate(undecided, significance=shares[1])
    observed = sampling.evidence.observed
    subject = Subject(claim=asked, delta=delta, plan=AuditPlan(), error=shares[2])
    bounds, notes = attack_bounds(
        _attacks(runs, scores, black_box),
        subject,
        releases.observations,
        runs=len(runs),
        checked_apart=_checked(releases) and observed is not None and not observed.contradicts_claim,
    )
    mechanism = mechanism_rows(
        releases.observations,
        tuple(str(name).removeprefix("model.") for name in runs[0].tensors),
        asked.noise_multiplier or math.nan,
        error=shares[1],
    )
    return CanaryEvidence(
        bounds=bounds,
        tests=gate.tests,
        contradicts_claim=costs_privacy(gate.tests, releases, asked, significance=shares[1]),
        alternatives=alternatives(
            releases.observations,
            asked.noise_multiplier or math.nan,
            significance=shares[1],
            tests=len(gate.tests),
            unwatched=_unwatched(runs[0], releases),
        ),
        scores=_summaries(scores, black_box, asked, delta),
        mechanism=mechanism,
        setting=describe_runs(runs, plan, black_box),
        notes=(*notes, *_fewer_steps(claim, plan), *remark_on(runs, plan, mechanism)),
    )


def _unwatched(run: RecordedRun, releases: Releases) -> list[str]:
    """Name the tensors in which noise was nowhere seen alone."""
    observations = releases.observations
    alone = np.unique(np.asarray(observations.tensor)[~observations.participated.all(axis=0)])
    hidden = [name for index, name in enumerate(run.tensors) if index not in alone and index in run.tensor]
    return [str(name).removeprefix("model.") for name in (*run.unwatched, *hidden)]


def _fewer_steps(claim: PrivacyClaim, plan: RunPlan) -> tuple[str, ...]:
    claimed = claim.total_steps
    if claimed is None or plan.steps >= claimed:
        return ()
    return (f"Each run took {plan.steps} of the claimed {claimed} steps: lower bounds are for those alone.",)


def _checked(releases: Releases) -> bool:
    return not math.isnan(releases.clipped_most) and releases.clipped_most <= 1 + 1e-3


def _attacks(
    runs: Sequence[RecordedRun], scores: CanaryScores, black_box: CanaryScores | None
) -> list[Attack]:
    found = [Attack(scores=scores, threat_model="white_box", estimators=_of_runs(_WHITE_BOX, len(runs)))]
    if len(runs) >= _MANY_RUNS:
        first = scores.run == 0
        one = CanaryScores(included=scores.included[first], score=scores.score[first], attack=scores.attack)
        found.append(Attack(scores=one, threat_model="white_box", estimators=_ONE_RUN))
    if len(runs[0].input_score):
        inputs = CanaryScores(
            included=np.concatenate([run.input_included for run in runs]),
            score=np.concatenate([run.input_score for run in runs]),
            run=np.repeat(np.arange(len(runs)), [len(run.input_score) for run in runs]),
            attack="fall of the loss of unusual records",
        )
        found.append(Attack(scores=inputs, threat_model="black_box", estimators=_of_runs(_INPUTS, len(runs))))
    if black_box is not None:
        found.append(
            Attack(scores=black_box, threat_model="black_box", estimators=_BLACK_BOX, independent=True)
        )
    return found


def _of_runs(names: tuple[str, ...], runs: int) -> tuple[str, ...]:
    """Choose estimators: of all canaries together where runs are few, over the runs where they are many."""
    if runs < _MANY_RUNS:
        return tuple(name for name in names if not name.startswith("run_level"))
    loose = () if runs >= _BETTING else ("run_level_betting",)
    return tuple(name for name in names if name not in (*_ONE_RUN, *loose))


def _summaries(
    scores: CanaryScores, black_box: CanaryScores | None, claim: PrivacyClaim, delta: float
) -> tuple[ScoreSummary, ...]:
    found = [summarise_scores(scores, claim, delta=delta, threat_model="white_box")]
    if black_box is not None:
        found.append(summarise_scores(black_box, claim, delta=delta, threat_model="black_box"))
    return tuple(one for one in found if one is not None)
