"""From a trace and a claim to a report: the pipeline that joins the evidence packages."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpaudit.audit.sampling import audit_sampling as audit_sampling

__all__ = ["audit_sampling"]


def __getattr__(name: str) -> Any:
    # Resolved on first use: rules are explained, and reports rendered, without the accountants.
    if name == "audit_sampling":
        from dpaudit.audit.sampling import audit_sampling

        return audit_sampling
    raise AttributeError(f"module 'dpaudit.audit' has no attribute {name!r}")
