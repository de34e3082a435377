"""From a user's loader to a sampling trace: load the file, find the loader, record its batches.

    load_target    `my_loader.py:name(arg=1)` -> Target, the loader found in the user's file
    record         loader -> SamplingTrace
    capture        loader -> Recording: the trace, the method it was had by, what the loader says
    watch          loader -> the same loader, which leaves a trace as the user iterates it
    loader_facts   loader -> LoaderFacts: N, batch size, rate, sampler, read off its attributes
    record_script  program -> ScriptRun: what reached its optimizer as it ran, and what it claims
    step           marks an optimizer step of an audited program that has no torch optimizer

Flow of a recording: `sources` makes each kind of loader readable (`torch_source` for a DataLoader, by
one of the `methods`; `wrapped` for an object around one), a `Recorder` collects the record numbers,
`plausible` refuses streams of something else, `result` turns the numbers into a trace.
torch is imported only once a torch object is in play. A new ecosystem is a new `Source`.
"""

from dpaudit.instrument.facts import LoaderFacts, loader_facts
from dpaudit.instrument.methods import Method
from dpaudit.instrument.recording import capture, record
from dpaudit.instrument.result import Recording
from dpaudit.instrument.script import record_script, step
from dpaudit.instrument.target import Target, load_target
from dpaudit.instrument.watching import watch

__all__ = [
    "LoaderFacts",
    "Method",
    "Recording",
    "Target",
    "capture",
    "load_target",
    "loader_facts",
    "record",
    "record_script",
    "step",
    "watch",
]
