"""SamplingMonitor: a test of Poisson sampling that may be looked at after every step.

The null hypothesis is one probability law P: batch t holds each of N records with probability q,
independently over records and steps. F_t is what the first t batches tell.

Bets. A bet j chooses, after step t - 1 and so as a function of F_{t-1}, a law Q_{j,t} of the next
batch, and earns the likelihood ratio E_{j,t} = Q_{j,t}(B_t) / P(B_t). Under P
E[E_{j,t} | F_{t-1}] = sum_B P(B) Q(B) / P(B) <= 1, with equality where Q puts no mass where P has
none. Three kinds of laws are used:
  - another law of the size, batches of one size staying equally likely: the ratio is that of the
    laws of the size (`monitor_sizes`);
  - records drawn independently at rates q_i that F_{t-1} fixes: the ratio is the product of
    q_i / q over those drawn and (1 - q_i) / (1 - q) over the others (`monitor_records`);
  - given the size, mass on an event A (a copy of an earlier batch) whose probability under P given
    F_{t-1} and the size is at most a known c: (1/2) + (1/2) 1{B_t in A} / c (`monitor_copies`).
A part e of the stake may be kept back: (1 - e) E + e has mean at most 1 again.

Start. A bet need not begin at the first step: with weights w_s >= 0, sum_s w_s = 1 and
W_t = sum_{s > t} w_s, bet j is worth M_{j,t} = W_t + A_{j,t}, A_{j,t} = E_{j,t} (A_{j,t-1} + w_t).
Since E[A_{j,t} | F_{t-1}] <= A_{j,t-1} + w_t and W_{t-1} = W_t + w_t, this is a non-negative
supermartingale from M_{j,0} = 1. So a sampler that goes wrong late is found, for log(1 / w_s) nats.

Mixture. M_t = sum_j v_j M_{j,t}, with v_j >= 0 fixed beforehand and summing to 1, is a supermartingale
from 1 too: an e-process. By Ville's inequality P(exists t: M_t >= 1 / alpha) <= alpha. Hence, whenever
one looks and whenever one stops, rejecting once M_t >= 1 / alpha errs with probability at most alpha,
and 1 / max_{s <= t} M_s is a p-value. A record twice in a step has probability 0 under P: M_t is
infinite from then on.

References:
  Ville, Etude critique de la notion de collectif (1939). Ramdas, Gruenwald, Vovk, Shafer,
  arXiv:2210.01948 (e-processes, Ville's inequality, mixtures); Waudby-Smith and Ramdas,
  arXiv:2010.09686 (predictable bets); Shin, Ramdas, Rinaldo, arXiv:2203.03532 (sums over starts).
"""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dpaudit.errors import TraceError
from dpaudit.sampling import monitor_copies, monitor_records, monitor_sizes
from dpaudit.sampling.monitor_copies import CopyBet
from dpaudit.sampling.monitor_records import RecordBets
from dpaudit.sampling.monitor_sizes import SizeBets
from dpaudit.sampling.rules import RULES

# Shares of the families of bets: more for what is common. They sum to 1.
_SHARES = {
    "DPA102": 0.15, "DPA103": 0.05, "DPA104": 0.2, "DPA105": 0.05, "DPA107": 0.1, "DPA108": 0.1,
    "DPA109": 0.15, "DPA111": 0.05, "DPA112": 0.05, "DPA113": 0.02, "DPA115": 0.08,
}  # fmt: skip
_DUPLICATES = "DPA106"


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorState:
    """What is known after some steps."""

    steps: int
    log_e_value: float
    """Natural logarithm of M_t; may fall again."""
    p_value: float
    """1 / the largest M_s so far, at most 1: valid at every step, all of them together."""
    refuted: bool
    """The p-value reached the significance level, now or earlier."""
    leading: str
    """Title of the rule whose bets are worth most; "" before the first step."""
    rule: str
    """Its id, for `dpaudit explain`; "" before the first step."""


class SamplingMonitor:
    """Test step by step that batches are Poisson samples at a rate, as long as one likes.

    Under that hypothesis `refuted` ever becomes True with probability at most `significance`,
    however often one looks; the proof is in the module's first lines. Not tested: which records go
    together in a step, their rows and groups. `check_sampling` of the trace tests these.

    Args:
      num_records: N, at least 1.
      sampling_rate: q, in (0, 1].
      significance: in (0, 1).

    Raises:
      ValueError: an argument is out of range.
    """

    def __init__(self, num_records: int, sampling_rate: float, significance: float = 1e-3) -> None:
        if isinstance(num_records, bool) or num_records != int(num_records) or num_records < 1:
            raise ValueError(f"expected num_records >= 1, got {num_records!r}")
        if not 0 < sampling_rate <= 1:
            raise ValueError(f"expected 0 < sampling_rate <= 1, got {sampling_rate!r}")
        if not 0 < significance < 1:
            raise ValueError(f"expected 0 < significance < 1, got {significance!r}")
        self.num_records = int(num_records)
        self.sampling_rate = float(sampling_rate)
        self.significance = float(significance)
        self._steps = 0
        self._log_e = self._largest = 0.0
        self._rule = ""
        self._stamps = np.zeros(self.num_records, np.int32)
        if self.sampling_rate < 1:  # else there is one possible batch, and nothing to bet on
            self._sizes = SizeBets(self.num_records, self.sampling_rate)
            self._records = RecordBets(self.num_records, self.sampling_rate)
            self._copies = CopyBet(self.num_records)
            self._rules, self._log_shares = _bets(self.sampling_rate)
            self._log_worth = np.full(len(self._rules), -np.inf)

    @property
    def state(self) -> MonitorState:
        """What is known so far."""
        p_value = math.exp(-self._largest)
        return MonitorState(
            steps=self._steps,
            log_e_value=self._log_e,
            p_value=p_value,
            refuted=p_value <= self.significance,
            leading=RULES[self._rule].title if self._rule else "",
            rule=self._rule,
        )

    def update(self, batch: npt.ArrayLike) -> MonitorState:
        """Take the batch of the next step.

        Args:
          batch: record numbers, whole, each in 0..N - 1, shape (B,); may be empty.

        Raises:
          ValueError: not of that form; the monitor is left as it was.
        """
        records = self._checked(batch)
        self._steps += 1
        if self._repeats(records) or (self.sampling_rate == 1 and len(records) < self.num_records):
            self._log_e, self._rule = math.inf, _DUPLICATES if self._repeats(records) else "DPA102"
        elif self.sampling_rate < 1 and self._log_e < math.inf:
            self._bet(records)
        self._largest = max(self._largest, self._log_e)
        return self.state

    def start_pass(self) -> None:
        """Say that the loader begins a new pass over the data; helps, and need not be said."""
        if self.sampling_rate < 1:
            self._records.start_pass()

    def start_run(self) -> None:
        """Say that the next step is the first of a new run with randomness of its own."""
        if self.sampling_rate < 1:
            self._records.start_run()

    def _checked(self, batch: npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
        records = np.asarray(batch)
        if records.size == 0:
            return np.zeros(0, np.int64)
        if records.ndim != 1 or records.dtype.kind not in "iu":
            raise ValueError(f"expected whole record numbers, got {records.dtype} of shape {records.shape}")
        if records.min() < 0 or records.max() >= self.num_records:
            wrong = records.min() if records.min() < 0 else records.max()
            raise ValueError(f"record number {wrong} is outside 0..{self.num_records - 1}")
        return records

    def _repeats(self, records: npt.NDArray[np.integer[Any]]) -> bool:
        """Tell whether a record is twice in the batch: its later place overwrites the earlier one."""
        places = np.arange(len(records), dtype=np.int32)
        self._stamps[records] = places
        return bool((self._stamps[records] != places).any())

    def _bet(self, records: npt.NDArray[np.integer[Any]]) -> None:
        bets = (
            self._sizes.log_bets(len(records)),
            self._records.bet_and_learn(records),
            self._copies.bet_and_learn(records),
        )
        self._sizes.learn(len(records))
        start = math.log(_left(self._steps - 1) - _left(self._steps))
        self._log_worth = np.concatenate(bets) + np.logaddexp(self._log_worth, start)
        values = self._log_shares + self._log_worth
        best = int(values.argmax())
        self._rule = self._rules[best]
        self._log_e = float(np.logaddexp(np.logaddexp.reduce(values), math.log(_left(self._steps))))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that `load` needs to go on, an `.npz` file; as sensitive as the batches themselves.

        Raises:
          TraceError: the file cannot be written; one that was there before stays.
        """
        arrays: dict[str, Any] = {
            "setting": np.array([self.num_records, self.sampling_rate, self.significance]),
            "totals": np.array([self._steps, self._log_e, self._largest]),
            "rule": np.array(self._rule),
        }
        if self.sampling_rate < 1:
            arrays["log_worth"] = self._log_worth
            for part in (self._sizes, self._records, self._copies):
                arrays |= part.stored()
        temporary = f"{os.fspath(path)}.tmp"
        try:
            with open(temporary, "wb") as file:
                np.savez(file, **arrays)
            os.replace(temporary, path)
        except OSError as error:
            reason = error.strerror or error
            raise TraceError(f"cannot write the monitor {os.fspath(path)}: {reason}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SamplingMonitor:
        """Read a monitor that `save` wrote; it goes on as if it had never stopped.

        Raises:
          TraceError: the file is missing or none of `save`; pickled content is refused.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            num_records, rate, significance = arrays["setting"].tolist()
            monitor = cls(int(num_records), rate, significance)
            steps, monitor._log_e, monitor._largest = arrays["totals"].tolist()
            monitor._steps, monitor._rule = int(steps), str(arrays["rule"])
            if rate < 1:
                monitor._log_worth = arrays["log_worth"]
                for part in (monitor._sizes, monitor._records, monitor._copies):
                    part.restore(arrays)
        except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise TraceError(f"cannot read the monitor {os.fspath(path)}: {error}") from error
        return monitor


def _left(step: int) -> float:
    """Give the weight of all starts after a step: it falls so slowly that late starts cost little."""
    return 1 / math.log2(step + 2)


def _bets(rate: float) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Give the rule of each bet and the logarithm of its share, families sharing evenly."""
    families = (*monitor_sizes.FAMILIES, *monitor_records.families(rate), *monitor_copies.FAMILIES)
    rules = tuple(rule for rule, number in families for _ in range(number))
    shares = np.array([_SHARES[rule] / number for rule, number in families for _ in range(number)])
    return rules, np.log(shares)
