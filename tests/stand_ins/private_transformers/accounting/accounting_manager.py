"""Stand-in, see README.md: managers that answer for Poisson sampling by Rényi differential privacy."""

from __future__ import annotations

import abc
import math

DEFAULT_ALPHAS = tuple(range(2, 64))


class AccountingManager(abc.ABC):
    @abc.abstractmethod
    def compute_epsilon(self, sigma, sample_rate, target_delta, steps) -> dict: ...

    def compute_sigma(
        self,
        target_epsilon,
        target_delta,
        sample_rate,
        epochs=None,
        steps=None,
        threshold=1e-3,
        sigma_hi_init=4,
        sigma_lo_init=0.1,
    ) -> float:
        steps = math.ceil(epochs / sample_rate) if steps is None else steps
        low, high = sigma_lo_init, sigma_hi_init
        while high - low > threshold:
            middle = (low + high) / 2
            answer = self.compute_epsilon(middle, sample_rate, target_delta, steps)
            low, high = (low, middle) if answer["eps_rdp"] < target_epsilon else (middle, high)
        return high


class RDPManager(AccountingManager):
    def __init__(self, alphas):
        self._alphas = alphas

    def compute_epsilon(self, sigma, sample_rate, target_delta, steps) -> dict:
        """Answer by the moments of whole orders (arXiv:1908.10530, section 3.3)."""

        def epsilon(order):
            terms = [
                math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
                + k * math.log(sample_rate) + (order - k) * math.log1p(-sample_rate)
                + k * (k - 1) / (2 * sigma**2)
                for k in range(order + 1)
            ]  # fmt: skip
            top = max(terms)
            moment = (top + math.log(sum(math.exp(term - top) for term in terms))) / (order - 1)
            return steps * moment - math.log(target_delta) / (order - 1)

        best = min(self._alphas, key=epsilon)
        return {"eps_rdp": epsilon(best), "alpha_rdp": best}


class GLWManager(AccountingManager):
    def __init__(self, eps_error=0.05):
        self._eps_error = eps_error

    def compute_epsilon(self, sigma, sample_rate, target_delta, steps) -> dict:
        if steps == 0:
            return {"eps_low": None, "eps_estimate": None, "eps_upper": None}
        bound = RDPManager(DEFAULT_ALPHAS).compute_epsilon(sigma, sample_rate, target_delta, steps)["eps_rdp"]
        return {"eps_low": bound - 0.1, "eps_estimate": bound - 0.05, "eps_upper": bound}
