"""The gallery: small programs with real libraries, right and wrong, each with the verdict it must get."""

from __future__ import annotations

import ast
import importlib.util
import sys
import warnings
from pathlib import Path

import pytest

from dpaudit.audit.script import audit_script
from dpaudit.claim import PrivacyClaim
from dpaudit.instrument.script import Program, ScriptRun, record_script
from dpaudit.instrument.seeding import restored
from dpaudit.provenance import collect

torch = pytest.importorskip("torch")
PROGRAMS = Path(__file__).parent / "programs"
STAND_INS = Path(__file__).parents[1] / "stand_ins"  # for libraries that no package index has

# Program -> (verdict, what runs, libraries it needs).
GALLERY: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "opacus_poisson": ("consistent", "poisson", ("opacus",)),
    "opacus_with_epsilon": ("consistent", "poisson", ("opacus",)),
    "opacus_not_wrapped": ("consistent", "poisson", ("opacus",)),
    "opacus_ghost": ("consistent", "poisson", ("opacus",)),
    "opacus_memory_manager": ("consistent", "poisson", ("opacus",)),
    "opacus_workers": ("consistent", "poisson", ("opacus",)),
    "opacus_validation": ("consistent", "poisson", ("opacus",)),
    "prefetched_poisson": ("consistent", "poisson", ("opacus",)),
    "lightning_datamodule": ("consistent", "poisson", ("opacus", "pytorch_lightning")),
    "hf_trainer_private_loader": ("consistent", "poisson", ("opacus", "transformers", "accelerate")),
    "hf_datasets_poisson": ("consistent", "poisson", ("opacus", "datasets")),
    "accelerate_poisson": ("consistent", "poisson", ("opacus", "accelerate")),
    "stateful_poisson": ("consistent", "poisson", ("opacus", "torchdata")),
    "by_hand_poisson": ("consistent", "poisson", ()),
    "numpy_marked_steps": ("consistent", "poisson", ()),
    "jax_poisson": ("consistent", "poisson", ("jax_privacy",)),
    "jax_plan": ("consistent", "poisson", ("jax_privacy",)),
    "jax_marked_steps": ("consistent", "poisson", ("jax_privacy",)),
    "jax_cyclic_accounted": ("consistent", "cyclic_poisson", ("jax_privacy",)),
    "fastdp_poisson": ("consistent", "poisson", ("fastDP",)),
    "private_transformers_poisson": ("consistent", "poisson", ("private_transformers",)),
    "keras_fit_poisson_generator": ("consistent", "poisson", ("keras", "tensorflow")),
    "keras_train_on_batch": ("consistent", "poisson", ("keras", "tensorflow")),
    "tf_loop_poisson": ("consistent", "poisson", ("tensorflow",)),
    "tf_function_poisson": ("consistent", "poisson", ("tensorflow",)),
    "tf_validation_between": ("consistent", "poisson", ("keras", "tensorflow")),
    "tfprivacy_statement": ("consistent", "shuffle", ("tensorflow_privacy", "tensorflow")),
    "shuffled_without_amplification": ("consistent", "shuffle", ()),
    "opacus_thrown_away": ("refuted", "shuffle", ("opacus",)),
    "opacus_no_poisson": ("refuted", "shuffle", ("opacus",)),
    "opacus_memory_manager_other_loader": ("refuted", "shuffle", ("opacus",)),
    "opacus_accumulation": ("refuted", "shuffle", ("opacus",)),
    "opacus_same_seed_each_epoch": ("refuted", "replayed_poisson", ("opacus",)),
    "opacus_skips_large_batches": ("unsupported", "truncated_poisson", ("opacus",)),
    "opacus_skips_empty_batches": ("unsupported", "unrecognised", ("opacus",)),
    "opacus_account_lost": ("refuted", "poisson", ("opacus",)),
    "opacus_optimizer_thrown_away": ("refuted", "poisson", ("opacus",)),
    "opacus_wrong_length": ("refuted", "poisson", ("opacus",)),
    "lightning_plain_loader": ("refuted", "shuffle", ("opacus", "pytorch_lightning")),
    "hf_trainer_own_loader": ("refuted", "shuffle", ("opacus", "transformers", "accelerate")),
    "hf_datasets_streamed": ("unsupported", "unrecognised", ("datasets",)),
    "webdataset_shuffle": ("unsupported", "unrecognised", ("webdataset",)),
    "accelerate_shuffle": ("refuted", "shuffle", ("opacus", "accelerate")),
    "by_hand_two_draws_a_step": ("unsupported", "unrecognised", ()),
    "by_hand_longer_than_planned": ("refuted", "poisson", ("opacus",)),
    "by_hand_less_noise": ("refuted", "poisson", ("opacus",)),
    "balanced_classes": ("refuted", "fixed_size", ()),
    "fixed_size_draws": ("refuted", "fixed_size", ()),
    "fastdp_shuffle": ("refuted", "shuffle", ("fastDP",)),
    "private_transformers_shuffle": ("refuted", "shuffle", ("private_transformers",)),
    "jax_cyclic": ("refuted", "cyclic_poisson", ("jax_privacy",)),
    "jax_thrown_away": ("refuted", "shuffle", ("jax_privacy",)),
    "jax_skips_empty_batches": ("unsupported", "unrecognised", ("jax_privacy",)),
    "jax_joins_two_batches": ("unsupported", "unrecognised", ("jax_privacy",)),
    "jax_cuts_batches": ("inconclusive", "poisson", ("jax_privacy",)),
    "jax_band_matrix": ("inconclusive", "cyclic_poisson", ("jax_privacy",)),
    "keras_fit_shuffle": ("refuted", "shuffle", ("keras", "tensorflow")),
    "keras_fit_equal_records": ("refuted", "shuffle", ("keras", "tensorflow")),
    "tf_loop_shuffle_buffer": ("unsupported", "unrecognised", ("tensorflow",)),
    "tf_repeat_before_batch": ("unsupported", "unrecognised", ("keras", "tensorflow")),
    "tfprivacy_shuffle": ("refuted", "shuffle", ("tensorflow_privacy", "tensorflow")),
    "plain_torch": ("inconclusive", "shuffle", ()),
}
QUICK = ("opacus_poisson", "opacus_thrown_away")


def require(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def run(name: str) -> ScriptRun:
    with restored(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return record_script(Program(str(PROGRAMS / f"{name}.py")))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in GALLERY]
)
def test_each_program_gets_its_verdict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict, scheme, libraries = GALLERY[name]
    monkeypatch.setattr(sys, "path", [*sys.path, str(STAND_INS)])
    for library in libraries:
        require(library)
    ran = run(name)
    assert not ran.ending.is_failure, ran.ending.traceback
    report = audit_script(ran, PrivacyClaim(), provenance=collect(command=[]))
    assert report.evidence.observed is not None
    observed = report.evidence.observed
    assert (report.verdict.outcome.value, observed.scheme.name) == (verdict, scheme), observed.description


def test_the_gallery_is_whole() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.py")} == {*GALLERY, "parts", "jax_parts", "tf_parts"}


def gallery_table() -> str:
    """Give the rows of the table in docs/ecosystems.md."""
    rows = []
    for name, (verdict, scheme, libraries) in GALLERY.items():
        told = ast.get_docstring(ast.parse((PROGRAMS / f"{name}.py").read_text())) or ""
        what = told.splitlines()[0].rstrip(".")
        used = ", ".join(libraries) or "torch"
        rows.append(f"| `{name}.py`: {what} | {used} | {verdict} | {scheme.replace('_', ' ')} |")
    return "\n".join(rows)


def test_the_documented_table_is_this_gallery() -> None:
    text = (Path(__file__).parents[2] / "docs" / "ecosystems.md").read_text()
    assert gallery_table() in text
