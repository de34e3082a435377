"""The libraries that a watched program may use: what is patched in each, once the program imports it.

One entry for each library, and one file. A file gives what is made from the session and the claim log,
patches the library by `install`, and takes everything back by `remove`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Protocol

from dpaudit.instrument.after_import import after_import
from dpaudit.instrument.script.claim_log import ClaimLog
from dpaudit.instrument.script.session import Session


class Ecosystem(Protocol):
    """Patches of one library."""

    remove: Callable[[], None]
    """Take the patches back."""

    def install(self) -> None:
        """Patch the library, which the program has just imported."""


#: Name of the library that is waited for -> module here and what makes its patches. Modules may import it.
ECOSYSTEMS = {
    "torch": "torch_patches:TorchPatches",
    "tensorflow": "tensorflow_patches:TensorflowPatches",
    "keras": "keras_patches:KerasPatches",
    "tf_keras": "keras_patches:tf_keras",
    "opacus": "opacus_claims:OpacusClaims",
    "dp_accounting": "dp_accounting_claims:DpAccountingClaims",
    "tensorflow_privacy": "tf_privacy_claims:TfPrivacyClaims",
    "tensorflow_privacy.privacy.analysis.rdp_accountant": "tf_privacy_claims:OldAccountant",
    "fastDP": "attached_engines:fast_dp",
    "private_transformers": "attached_engines:private_transformers",
    "optax": "optax_steps:OptaxSteps",
    "jax_privacy": "jax_privacy_batches:JaxPrivacyBatches",
    "jax_privacy.accounting": "jax_privacy_claims:JaxPrivacyClaims",
}


@contextlib.contextmanager
def watching(session: Session, claims: ClaimLog) -> Iterator[None]:
    """Patch each library as soon as the program imports it, until the block ends.

    A library without the places that are patched must still train: a failure ends the recording alone.
    """

    def install(place: str) -> None:
        module, _, name = place.partition(":")
        kind: Callable[[Session, ClaimLog], Ecosystem] = getattr(
            import_module(f"{__package__}.{module}"), name
        )
        ecosystem = kind(session, claims)
        undo.callback(ecosystem.remove)
        ecosystem.install()

    def prepare(place: str) -> None:
        session.guarded(lambda: install(place))

    with contextlib.ExitStack() as undo:
        for library, place in ECOSYSTEMS.items():
            undo.enter_context(after_import(library, lambda place=place: prepare(place)))  # type: ignore[misc]
        yield
