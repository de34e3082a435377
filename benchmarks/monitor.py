"""Power of the live monitor beside that of the fixed-length battery, and its false alarms.

Power: steps after which nine of ten samplers of a kind are refuted, by the monitor (looked at after
every step) and by `check_sampling` of a trace of that length. Limit: three times as many steps.
False alarms: Poisson samplers of many shapes, looked at after every step, against the significance.
Overhead: CPU time of a training (small CNN on 28 x 28 pictures, one thread, Poisson batches of 64)
whose loader is watched, its trace streamed to disk and its claim tested, over that of the bare one;
limit 1.02.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dpaudit.sampling import check_sampling
from dpaudit.sampling.monitor import SamplingMonitor
from dpaudit.trace import SamplingTrace

RESULT = Path(__file__).parent / "results" / "monitor.json"
SIGNIFICANCE, POWER, LIMIT = 1e-3, 0.9, 3.0
Batches = Iterator[np.ndarray]
Rng = np.random.Generator


def poisson(rng: Rng, records: int, rate: float) -> Batches:
    while True:
        yield rng.choice(records, rng.binomial(records, rate), replace=False, shuffle=False)


def shuffled(rng: Rng, records: int, size: int) -> Batches:
    while True:
        order = rng.permutation(records)
        yield from (order[first : first + size] for first in range(0, records, size))


def fixed_size(rng: Rng, records: int, size: int) -> Batches:
    while True:
        yield rng.choice(records, size, replace=False, shuffle=False)


def balls_in_bins(rng: Rng, records: int, bins: int) -> Batches:
    while True:
        bin_of = rng.integers(bins, size=records)
        yield from (np.flatnonzero(bin_of == one) for one in range(bins))


def noisy_rate(rng: Rng, records: int, rate: float) -> Batches:
    while True:
        yield np.flatnonzero(rng.random(records) < rate * (1 + 0.3 * rng.standard_normal()))


def weighted(rng: Rng, records: int, rate: float) -> Batches:
    rates = np.where(np.arange(records) % 10 == 0, 3 * rate, rate * 7 / 9)
    while True:
        yield np.flatnonzero(rng.random(records) < rates)


# Name, N, claimed q, sampler, and whether the limit holds for it.
CASES: tuple[tuple[str, int, float, Callable[[Rng], Batches], bool], ...] = (
    ("shuffle, 50 of 1,000", 1000, 0.05, lambda rng: shuffled(rng, 1000, 50), True),
    ("shuffle, 256 of 50,000", 50_000, 256 / 50_000, lambda rng: shuffled(rng, 50_000, 256), True),
    ("fixed size, 50 of 1,000", 1000, 0.05, lambda rng: fixed_size(rng, 1000, 50), True),
    ("fixed size, 256 of 50,000", 50_000, 256 / 50_000, lambda rng: fixed_size(rng, 50_000, 256), True),
    ("rate 2 q", 1000, 0.05, lambda rng: poisson(rng, 1000, 0.1), True),
    ("rate 1.2 q", 1000, 0.05, lambda rng: poisson(rng, 1000, 0.06), True),
    ("rate 0.8 q", 1000, 0.05, lambda rng: poisson(rng, 1000, 0.04), True),
    ("rate 1.05 q", 1000, 0.05, lambda rng: poisson(rng, 1000, 0.0525), True),
    ("rate 0.95 q", 1000, 0.05, lambda rng: poisson(rng, 1000, 0.0475), True),
    ("rate 0.98 q", 1000, 0.05, lambda rng: poisson(rng, 1000, 0.049), True),
    ("balls in bins, 20 of 1,000", 1000, 0.05, lambda rng: balls_in_bins(rng, 1000, 20), False),
    ("rate with 30 % noise", 1000, 0.05, lambda rng: noisy_rate(rng, 1000, 0.05), False),
    ("a tenth of the records at 3 q", 1000, 0.05, lambda rng: weighted(rng, 1000, 0.05), False),
)


def steps_of_monitor(records: int, rate: float, batches: Batches, most: int) -> int:
    monitor = SamplingMonitor(records, rate, SIGNIFICANCE)
    for step, batch in enumerate(islice(batches, most), 1):
        if monitor.update(batch).refuted:
            return step
    return most + 1


def steps_of_battery(records: int, rate: float, traces: list[list[np.ndarray]]) -> int:
    """Give the least number of steps at which enough traces are rejected, to one in eight."""
    step, most = 2, len(traces[0])
    while step <= most:
        rejected = 0
        for batches in traces:
            trace = SamplingTrace.from_batches(batches[:step], num_records=records)
            rejected += check_sampling(trace, sampling_rate=rate, significance=SIGNIFICANCE).rejects_poisson
        if rejected >= POWER * len(traces):
            return step
        step = max(step + 1, round(step * 1.12))
    return most + 1


def power(samplers: int, seed: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for name, records, rate, make, limited in CASES:
        rng = np.random.default_rng(seed)
        stops = sorted(steps_of_monitor(records, rate, make(rng), 20_000) for _ in range(samplers))
        monitor = stops[int(np.ceil(POWER * samplers)) - 1]
        traces = [list(islice(make(rng), monitor)) for _ in range(samplers)]
        battery = steps_of_battery(records, rate, traces)
        results[name] = {
            "monitor_steps": monitor,
            "monitor_median": stops[samplers // 2],
            "battery_steps": battery if battery <= monitor else f"more than {monitor}",
            "monitor_over_battery": monitor / battery,
            "limit": LIMIT if limited else None,
        }
        print(name, results[name])
    return results


def calibrate(samplers: int, seed: int, longest: int = 300) -> dict[str, Any]:
    """Count the Poisson samplers that are ever refuted; N, q and T uniform on a log scale."""
    rng = np.random.default_rng(seed)
    smallest, steps, start = [], 0, time.process_time()
    for _ in range(samplers):
        low, high = np.log([200, 0.002, 30]), np.log([5000, 0.2, longest])
        records, rate, length = np.exp(rng.uniform(low, high)).tolist()
        monitor = SamplingMonitor(round(records), rate, SIGNIFICANCE)
        for batch in islice(poisson(rng, round(records), rate), round(length)):
            state = monitor.update(batch)
        smallest.append(state.p_value)
        steps += monitor.state.steps
    p_values = np.array(smallest)
    return {
        "samplers": samplers,
        "significance": SIGNIFICANCE,
        "refuted": int((p_values <= SIGNIFICANCE).sum()),
        "share_at_most": {str(level): float((p_values <= level).mean()) for level in (0.001, 0.01, 0.1)},
        "microseconds_per_step": (time.process_time() - start) / steps * 1e6,
    }


def overhead(rounds: int = 7, steps: int = 40) -> dict[str, Any]:
    """Alternate bare, streamed, and streamed and tested trainings; give the ratios of their medians."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    import dpaudit

    torch.set_num_threads(1)
    data = TensorDataset(torch.randn(2000, 1, 28, 28), torch.randint(10, (2000,)))
    model = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 49, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(loader: Any) -> float:
        start = time.process_time()
        for pictures, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pictures), labels).backward()
            optimizer.step()
        return (time.process_time() - start) / steps * 1e3

    times: dict[str, list[float]] = {"bare": [], "streamed": [], "streamed and tested": []}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds + 1):
            for kind, row in times.items():
                rng = np.random.default_rng(number)
                batches = [batch.tolist() for batch in islice(poisson(rng, 2000, 0.032), steps)]
                loader: Any = DataLoader(data, batch_sampler=batches)
                if kind != "bare":
                    claim = dpaudit.Poisson(0.032) if kind == "streamed and tested" else None
                    loader = dpaudit.watch(loader, stream=f"{directory}/{kind} {number}", claim=claim)
                row.append(train(loader))
        del loader
        gc.collect()  # ends the recordings while their directory is there
    medians = {kind: statistics.median(row[1:]) for kind, row in times.items()}  # the first ones warm up
    return {
        "milliseconds_per_step": medians,
        "streamed_over_bare": medians["streamed"] / medians["bare"],
        "tested_over_bare": medians["streamed and tested"] / medians["bare"],
        "limit": 1.02,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samplers", type=int, default=20, help="of each kind, for the power")
    parser.add_argument("--nulls", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    result = {
        "power": power(arguments.samplers, arguments.seed),
        "false_alarms": calibrate(arguments.nulls, arguments.seed),
        "overhead": overhead(),
    }
    print(json.dumps([result["false_alarms"], result["overhead"]], indent=2))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
