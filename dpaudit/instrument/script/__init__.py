"""Audit a training program as it runs, unmodified: what reaches its optimizer steps, and what it claims.

    record_script   Program -> ScriptRun: traces by data set and optimizer, the claim, how it ended
    step            `dpaudit.step()`: marks a step where no torch optimizer does
    join_ranks, leave_part, record_all    the same for a program that torchrun starts several times

Flow: `launch` runs the program as `__main__`. `torch_patches` puts taps on torch's iterators
(`iterators`), on backward and on optimizer steps; they report to a `session`, which keeps one `feed`
for each data set. Afterwards `attribution` tells which batches went into which step and `traces` makes
recordings of them. What compiled code does tells of itself (`jax_reports`, `late_steps`). With a `spool`
all this goes to disk, and `spooled` reads it again; `live_steps` hands each step to a test as it comes.
`opacus_claims`, `attached_engines` and others fill a `claim_log`. A new library is one such file and one
line in `ecosystems`. Of several ranks each leaves a `rank_part` by the `exchange`; `union` joins them. Ranks
that the program starts itself are `children`: each makes a `child_run`, and `own_ranks` joins them.
"""

from dpaudit.instrument.script.claim_log import (
    Accounted,
    Calibration,
    ClaimLog,
    Engine,
    NoiseUsed,
    ReadClaim,
    StatedEpsilon,
)
from dpaudit.instrument.script.exchange import Exchange, join_ranks
from dpaudit.instrument.script.launch import Ending, How, Program
from dpaudit.instrument.script.live_steps import LiveResult
from dpaudit.instrument.script.live_test import Examiner, StepTest
from dpaudit.instrument.script.mark import step
from dpaudit.instrument.script.ranked import leave_part, record_all
from dpaudit.instrument.script.script_result import ScriptRun
from dpaudit.instrument.script.script_run import record_script
from dpaudit.instrument.script.traces import FedOptimizer

__all__ = [
    "Accounted",
    "Calibration",
    "ClaimLog",
    "Ending",
    "Engine",
    "Examiner",
    "Exchange",
    "FedOptimizer",
    "How",
    "LiveResult",
    "NoiseUsed",
    "Program",
    "ReadClaim",
    "ScriptRun",
    "StatedEpsilon",
    "StepTest",
    "join_ranks",
    "leave_part",
    "record_all",
    "record_script",
    "step",
]
