"""Canaries in a training run: planted by coins, recorded at every release."""

from dpaudit.dpsgd.canaries.attached import CANARY_CLASS, AttachedModel
from dpaudit.dpsgd.canaries.faults import FAULTS
from dpaudit.dpsgd.canaries.layout import CanaryLayout, lay_out
from dpaudit.dpsgd.canaries.pipeline import PipelineCanaries, train_pipeline
from dpaudit.dpsgd.canaries.recorded_run import RecordedRun
from dpaudit.dpsgd.canaries.recorder import Recorder
from dpaudit.dpsgd.canaries.records import INPUT_KINDS, make_input_canaries
from dpaudit.dpsgd.canaries.reference_run import train_reference
from dpaudit.dpsgd.canaries.run_plan import RunPlan
from dpaudit.dpsgd.canaries.sites import find_sites

__all__ = [
    "CANARY_CLASS",
    "FAULTS",
    "INPUT_KINDS",
    "AttachedModel",
    "CanaryLayout",
    "PipelineCanaries",
    "RecordedRun",
    "Recorder",
    "RunPlan",
    "find_sites",
    "lay_out",
    "make_input_canaries",
    "train_pipeline",
    "train_reference",
]
