"""The tests of a claimed mechanism by canaries, in words."""

from __future__ import annotations

from dpaudit.sampling.rules import Rule

_PER_STEP = "arXiv:2302.07956"
_ALONE = (
    "Canaries with a coordinate of their own in every parameter tensor; what ordinary records add there is "
    "known and taken off. "
)
_NOISE = (
    "Add noise of noise_multiplier * clip_norm to the sum of clipped gradients, once, to every parameter."
)
_FRESH = "Draw fresh noise for every step, tensor and worker from one generator that is never set back."

CANARY_RULES = (
    Rule(
        id="DPA302",
        title="noise scale",
        null_hypothesis="The noise of every parameter tensor has the claimed standard deviation",
        method=_ALONE
        + "Chi-squared test of the squared noise in each tensor, two-sided, exact, corrected for "
        "the number of tensors",
        misses="Tensors that the report names as not watched; noise that is repeated (DPA304)",
        fix=_NOISE + " Noise for a mean instead of a sum is too small by the batch size; noise before "
        "accumulation, or a parameter left out of the noisy ones, shows here too.",
        effect_unit="relative error of the noise standard deviation",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA303",
        title="noise shape",
        null_hypothesis="The noise is Gaussian with the claimed standard deviation",
        method=_ALONE + "Kolmogorov-Smirnov test against the fully specified normal law, by Massart's "
        "inequality",
        misses="Deviations in the far tails; holes of floating-point samplers",
        fix="Clip before adding noise, never after; add Gaussian noise where Gaussian accounting is used.",
        effect_unit="largest distance of distribution functions",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA304",
        title="independent noise across steps",
        null_hypothesis="The noise of different steps is independent",
        method="Largest correlation of any two steps (exact beta law), of any lag (Azuma), and a part shared "
        "by all coordinates (analysis of variance), each corrected for what was tried",
        misses="Dependence without correlation",
        fix=_FRESH,
        effect_unit="largest correlation seen",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA305",
        title="independent noise across coordinates",
        null_hypothesis="The noise of different coordinates is independent",
        method="As DPA304, between the noise series of coordinates; equal noise at a constant distance is "
        "looked for among all",
        misses="Dependence without correlation; pairs outside the evenly spread subset that is tried",
        fix=_FRESH,
        effect_unit="largest correlation seen",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA306",
        title="independent noise across workers",
        null_hypothesis="The noise of different workers is independent",
        method="Largest correlation between the noise of any two workers in equal places, exact beta law",
        misses="Workers whose coordinates were not watched",
        fix="Seed the noise of every worker differently, or draw it on one worker alone.",
        effect_unit="largest correlation seen",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA307",
        title="sensitivity",
        null_hypothesis="No participating canary adds more than one clip norm",
        method="Normal tests of the mean over all participations and of the largest one. Where the engine "
        "can be called without noise, every included canary is also tried at norms from a thousandth of "
        "the clip norm to a million of it, infinite and not a number: one excess is proof",
        misses="Records whose gradients no canary resembles",
        fix="Clip each record's whole gradient, over all parameters together, before the sum; claim the clip "
        "norm that is applied; count a record's copies and micro-batches as one.",
        effect_unit="clip norms above one",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA308",
        title="sampling rate",
        null_hypothesis="An included canary joins each step with the claimed probability",
        method="Exact binomial test of all participations, two-sided",
        misses="Any sampler with the right mean rate; see DPA309 and the tests of the batches",
        fix="Take the rate from the length of the data set, and count logical batches.",
        effect_unit="relative error of the rate",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA309",
        title="independent participation",
        null_hypothesis="Participations are independent coins, over canaries and over steps",
        method="Spread of participation counts against the binomial variance, by a gamma law; two-sided",
        misses="Dependence that leaves both spreads alone",
        fix="Draw every batch with a Poisson sampler, or claim the epsilon of what really runs.",
        effect_unit="relative excess of the variance of counts",
        source=_PER_STEP,
    ),
    Rule(
        id="DPA310",
        title="end-to-end scores",
        null_hypothesis="Canaries are told apart no better than the claimed mechanism allows",
        method="Area under the curve of the scores, against its law under the claim's own likelihood ratio, "
        "which no score beats (data processing)",
        misses="Faults that the attack does not profit from; small ones, which the per-step tests see first",
        fix="See the other rejected tests; if there are none, look for a release besides the updates.",
        effect_unit="area under the curve",
        source="arXiv:1905.02383, Theorem 2.10",
    ),
    Rule(
        id="DPA311",
        title="ordinary records",
        null_hypothesis="Updates hold no more of ordinary records than the sum of their clipped gradients",
        method="That sum is computed a second time by another clipping mode. The residual of the release "
        "along it is one normal sample of the noise in each step; one-sided test of their mean",
        misses="Residuals at right angles to the sum; engines whose ordinary gradients are not recomputed",
        fix="Look for records that are counted twice, gradients that are added after clipping, or a clip "
        "norm that is not applied to some layer.",
        effect_unit="clip norms along the clipped sum, on average",
        source=_PER_STEP,
    ),
)
"""By rising id."""
