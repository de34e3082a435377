"""Names of steps that no optimizer object makes; a recording on disk knows them by these alone."""

BY_HAND = "dpaudit.step()"
"""Marked by the program."""
STATED = "dpaudit.step"
"""The loader of records that the program states itself."""
UPDATE = "optax.apply_updates"
"""Compiled code that updates parameters, which may follow a noisy release."""
RELEASE = "jax_privacy.noise_addition"
"""Compiled code that adds noise."""
LATE = (UPDATE, RELEASE)
"""Told by compiled code, which may be after the program has gone on."""
