"""Words for the end of a report: limits, waivers, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence

from dpaudit.audit_report import AuditReport
from dpaudit.policy import AppliedWaiver
from dpaudit.report.rows import WaiverRow


def limits(report: AuditReport) -> tuple[str, ...]:
    """Say what this audit cannot show."""
    observed, canary = report.evidence.observed, report.evidence.canary
    found = []
    if observed is not None:
        found += _of_sampling(canary is not None)
    elif canary is not None:
        found.append(
            "No data loader was watched: of the sampling of batches this audit knows only when canaries "
            "took part."
        )
    if report.evidence.observed_interval is not None:
        found.append(
            "A lower bound from the sampling says that data and gradients exist for which this mechanism "
            "leaks that much; it is not a measured leak of this training run."
        )
    if canary is not None:
        found += [
            "Canaries show leaks that these canaries and this attack can show. Another attack may find "
            "more, so no lower bound, however small, proves privacy.",
            "What was audited is the code that ran here, with canaries in its data. Another run, model or "
            "version of a library is another training.",
        ]
    found.append(
        "What is DECLARED was taken on trust. Tuning on the same data, other releases of it, side channels "
        "and access to the training machine are outside this audit."
    )
    return tuple(found)


def _of_sampling(canaries: bool) -> list[str]:
    found = []
    if not canaries:
        found.append(
            "The tests watched the batches that this loader yields. Whether the training loop uses this "
            "loader, clips each record's gradient and adds the claimed noise was not looked at."
        )
    found.append(
        "A test that does not reject proves nothing by itself: read it with the deviations that would "
        "have been seen."
    )
    return found


def waiver_rows(waivers: Sequence[AppliedWaiver]) -> tuple[WaiverRow, ...]:
    """Word the waivers that met a finding, the expired ones first."""
    return tuple(
        WaiverRow(
            rule=one.rule,
            finding=one.finding,
            reason=one.reason,
            until=one.until.isoformat(),
            approved_by=one.approved_by,
            state="EXPIRED" if one.expired else "IN FORCE",
        )
        for one in sorted(waivers, key=lambda one: not one.expired)
    )


def environment(report: AuditReport) -> tuple[tuple[str, str], ...]:
    """List what made the report, by name."""
    made = report.provenance
    revision = made.git_commit or "not in a git repository"
    if made.git_dirty:
        revision += " (with uncommitted changes)"
    packages = ", ".join(f"{name} {version}" for name, version in sorted(made.packages.items()))
    rows = [
        ("dpaudit", made.dpaudit),
        ("Python", made.python),
        ("Platform", made.platform),
        ("Packages", packages),
        ("Revision", revision),
        ("Seed", "none" if made.seed is None else str(made.seed)),
        ("Made", made.created),
    ]
    rows += [(f"sha256 of {name}", digest) for name, digest in sorted(made.input_sha256.items())]
    return tuple(rows)
