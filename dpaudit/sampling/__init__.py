"""From a trace to hypothesis tests, and from those to the name of the sampling scheme."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpaudit.sampling.check import check_sampling as check_sampling
    from dpaudit.sampling.monitor import MonitorState as MonitorState
    from dpaudit.sampling.monitor import SamplingMonitor as SamplingMonitor
    from dpaudit.sampling.rules import RULES as RULES
    from dpaudit.sampling.rules import Rule as Rule

__all__ = ["RULES", "MonitorState", "Rule", "SamplingMonitor", "check_sampling"]


def __getattr__(name: str) -> Any:
    # Resolved on first use: the battery compiles, its rules are read without it.
    if name == "check_sampling":
        from dpaudit.sampling.check import check_sampling

        return check_sampling
    if name in ("MonitorState", "SamplingMonitor"):
        from dpaudit.sampling import monitor

        return getattr(monitor, name)
    if name in ("RULES", "Rule"):
        from dpaudit.sampling import rules

        return getattr(rules, name)
    raise AttributeError(f"module 'dpaudit.sampling' has no attribute {name!r}")
