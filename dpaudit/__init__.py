"""dpaudit: audit differential-privacy claims of training pipelines.

A claim goes in, evidence is collected, and a verdict with its proof comes out. What the command
line does, ten lines of Python can do:

    import dpaudit

    trace = dpaudit.record(loader, steps=400)
    observed = dpaudit.check_sampling(trace, sampling_rate=0.05)
    claimed = dpaudit.epsilon(dpaudit.Poisson(0.05), noise_multiplier=1.0, steps=400,
                              num_records=trace.num_records, delta=1e-5)

Names are resolved on first use: `import dpaudit` itself imports nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dpaudit._version import __version__

if TYPE_CHECKING:
    from dpaudit.accounting import calibrate as calibrate
    from dpaudit.accounting import delta as delta
    from dpaudit.accounting import epsilon as epsilon
    from dpaudit.accounting import trade_off as trade_off
    from dpaudit.audit import audit_sampling as audit_sampling
    from dpaudit.audit.live import watch as watch
    from dpaudit.audit_report import AuditReport as AuditReport
    from dpaudit.claim import PrivacyClaim as PrivacyClaim
    from dpaudit.errors import DpauditError as DpauditError
    from dpaudit.errors import SamplingRefutedError as SamplingRefutedError
    from dpaudit.evidence import Evidence as Evidence
    from dpaudit.findings import HypothesisTest as HypothesisTest
    from dpaudit.findings import ObservedScheme as ObservedScheme
    from dpaudit.instrument import record as record
    from dpaudit.instrument import record_script as record_script
    from dpaudit.instrument import step as step
    from dpaudit.interval import Basis as Basis
    from dpaudit.interval import EpsilonInterval as EpsilonInterval
    from dpaudit.sampling import MonitorState as MonitorState
    from dpaudit.sampling import SamplingMonitor as SamplingMonitor
    from dpaudit.sampling import check_sampling as check_sampling
    from dpaudit.scheme import BallsInBins as BallsInBins
    from dpaudit.scheme import BlockShuffle as BlockShuffle
    from dpaudit.scheme import BMinSepPoisson as BMinSepPoisson
    from dpaudit.scheme import BufferShuffle as BufferShuffle
    from dpaudit.scheme import CorrelatedPoisson as CorrelatedPoisson
    from dpaudit.scheme import CyclicPoisson as CyclicPoisson
    from dpaudit.scheme import FixedSize as FixedSize
    from dpaudit.scheme import Poisson as Poisson
    from dpaudit.scheme import ReplayedPoisson as ReplayedPoisson
    from dpaudit.scheme import Sequential as Sequential
    from dpaudit.scheme import Shuffle as Shuffle
    from dpaudit.scheme import TruncatedPoisson as TruncatedPoisson
    from dpaudit.scheme import Unrecognised as Unrecognised
    from dpaudit.scheme import WeightedPoisson as WeightedPoisson
    from dpaudit.scores import CanaryScores as CanaryScores
    from dpaudit.trace import SamplingTrace as SamplingTrace
    from dpaudit.trace_writer import TraceWriter as TraceWriter
    from dpaudit.trace_writer import join_traces as join_traces
    from dpaudit.verdict import Outcome as Outcome
    from dpaudit.verdict import Verdict as Verdict
    from dpaudit.verdict import decide as decide

_HOME = {
    "accounting": ("calibrate", "delta", "epsilon", "trade_off"),
    "audit": ("audit_sampling",),
    "audit.live": ("watch",),
    "audit_report": ("AuditReport",),
    "claim": ("PrivacyClaim",),
    "errors": ("DpauditError", "SamplingRefutedError"),
    "evidence": ("Evidence",),
    "findings": ("HypothesisTest", "ObservedScheme"),
    "instrument": ("record", "record_script", "step"),
    "interval": ("Basis", "EpsilonInterval"),
    "sampling": ("MonitorState", "SamplingMonitor", "check_sampling"),
    "scheme": (
        "BMinSepPoisson",
        "BallsInBins",
        "BlockShuffle",
        "BufferShuffle",
        "CorrelatedPoisson",
        "CyclicPoisson",
        "FixedSize",
        "Poisson",
        "ReplayedPoisson",
        "Sequential",
        "Shuffle",
        "TruncatedPoisson",
        "Unrecognised",
        "WeightedPoisson",
    ),
    "scores": ("CanaryScores",),
    "trace": ("SamplingTrace",),
    "trace_writer": ("TraceWriter", "join_traces"),
    "verdict": ("Outcome", "Verdict", "decide"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
_PACKAGES = ("canary", "dpsgd", "instrument", "sampling", "scheme", "verdict")

__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"dpaudit.{_MODULE_OF[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"dpaudit.{name}")
    raise AttributeError(f"module 'dpaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
