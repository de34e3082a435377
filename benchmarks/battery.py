"""Time and memory of the whole battery on a long Poisson trace, against the limits it must keep.

Limits: 60 ns a draw on one core; memory of the trace itself, 16 bytes a record and 16 a step.
The measuring runs in its own process, warm: compiled, imported, and the trace already there.

With --giant a trace directory of a tenth of that many draws, and then one of all, are written and
audited from disk: opening (which checks every chunk) and battery together. Limits: 4 GB of memory of
its own (mapped pages of the file are the system's to take back), and the time per draw of the smaller one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from numba import njit

from dpaudit.sampling import check_sampling
from dpaudit.trace import SamplingTrace
from dpaudit.trace_writer import TraceWriter

RESULT = Path(__file__).parent / "results" / "battery.json"
GIANT_RESULT = RESULT.with_name("battery_giant.json")
GIANT_BYTES = 4e9
_STEPS_AT_ONCE = 4000
NANOSECONDS_PER_DRAW = 60.0
BYTES_PER_RECORD = BYTES_PER_STEP = 16


@njit(cache=True)
def _draw(indices, offsets, num_records, seed):  # type: ignore[no-untyped-def]
    """Fill every batch with a uniform subset of its size (binomial size, then a choice: Poisson)."""
    np.random.seed(seed)  # noqa: NPY002
    taken = np.full(num_records, -1, np.int32)
    for step in range(len(offsets) - 1):
        position = offsets[step]
        while position < offsets[step + 1]:
            record = np.random.randint(num_records)  # noqa: NPY002
            if taken[record] != step:
                taken[record] = step
                indices[position] = record
                position += 1


def poisson_trace(num_records: int, rate: float, steps: int, seed: int) -> SamplingTrace:
    sizes = np.random.default_rng(seed).binomial(num_records, rate, steps)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    indices = np.empty(offsets[-1], np.int32)
    _draw(indices, offsets, num_records, seed)
    return SamplingTrace(indices=indices, offsets=offsets, num_records=num_records)


def resident(entry: str) -> int:
    """Give resident memory in bytes, now ("VmRSS") or at most ("VmHWM"); Linux only."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


def measure(num_records: int, batch_size: int, draws: int) -> dict[str, float]:
    rate = batch_size / num_records
    check_sampling(poisson_trace(2000, 0.05, 100, 1), sampling_rate=0.05)
    trace = poisson_trace(num_records, rate, draws // batch_size, 0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = resident("VmRSS")
    start, wall = time.process_time(), time.perf_counter()
    observed = check_sampling(trace, sampling_rate=rate)
    # Time on one core: what others do on this machine meanwhile is not the battery's.
    seconds, wall = time.process_time() - start, time.perf_counter() - wall
    grown = resident("VmHWM") - before
    allowed = BYTES_PER_RECORD * num_records + BYTES_PER_STEP * trace.steps
    return {
        "num_records": num_records,
        "batch_size": batch_size,
        "steps": trace.steps,
        "draws": trace.draws,
        "seconds": seconds,
        "wall_seconds": wall,
        "nanoseconds_per_draw": seconds / trace.draws * 1e9,
        "time_over_limit": seconds / trace.draws * 1e9 / NANOSECONDS_PER_DRAW,
        "extra_bytes": grown,
        "allowed_extra_bytes": allowed,
        "memory_over_limit": grown / allowed,
        "rejects_poisson": observed.rejects_poisson,
    }


def write_poisson_trace(path: Path, num_records: int, rate: float, steps: int) -> None:
    with TraceWriter(path, num_records=num_records) as writer:
        for first in range(0, steps, _STEPS_AT_ONCE):
            part = poisson_trace(num_records, rate, min(_STEPS_AT_ONCE, steps - first), first)
            for batch in part.batches():
                writer.add(batch)


def measure_file(num_records: int, batch_size: int, draws: int) -> dict[str, float]:
    """Write a trace directory, then open and audit it; memory is watched from a second thread."""
    rate = batch_size / num_records
    check_sampling(poisson_trace(2000, 0.05, 100, 1), sampling_rate=0.05)
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as directory:
        path = Path(directory) / "trace"
        start = time.perf_counter()
        write_poisson_trace(path, num_records, rate, draws // batch_size)
        written = time.perf_counter() - start
        largest, ended = [resident("RssAnon")], threading.Event()

        def look() -> None:
            while not ended.wait(0.02):
                largest[0] = max(largest[0], resident("RssAnon"))

        watcher = threading.Thread(target=look)
        watcher.start()
        start, wall = time.process_time(), time.perf_counter()
        trace = SamplingTrace.load(path)
        opened = time.process_time() - start
        observed = check_sampling(trace, sampling_rate=rate)
        seconds, wall = time.process_time() - start, time.perf_counter() - wall
        ended.set()
        watcher.join()
        return {
            "num_records": num_records,
            "batch_size": batch_size,
            "steps": trace.steps,
            "draws": trace.draws,
            "bytes_on_disk": sum(file.stat().st_size for file in path.iterdir()),
            "seconds_to_write": written,
            "seconds": seconds,
            "seconds_of_which_opening": opened,
            "wall_seconds": wall,
            "nanoseconds_per_draw": seconds / trace.draws * 1e9,
            "time_over_limit": seconds / trace.draws * 1e9 / NANOSECONDS_PER_DRAW,
            "own_bytes": largest[0],
            "memory_over_limit": largest[0] / GIANT_BYTES,
            "rejects_poisson": observed.rejects_poisson,
        }


def giant(draws: int) -> None:
    runs = []
    for number in (draws // 10, draws):
        command = [sys.executable, __file__, "--draws", str(number), "--one", "1281167", "1000", "--giant"]
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        print(json.dumps(runs[-1], indent=2), flush=True)
    ratio = runs[1]["nanoseconds_per_draw"] / runs[0]["nanoseconds_per_draw"]
    print("time per draw over that of a tenth of the draws:", ratio)
    content = {"runs": runs, "time_per_draw_over_that_of_a_tenth": ratio}
    GIANT_RESULT.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100_000_000)
    parser.add_argument("--one", type=int, nargs=2, metavar=("RECORDS", "BATCH"))
    parser.add_argument("--giant", action="store_true", help="trace directories, up to --draws")
    arguments = parser.parse_args()
    if arguments.one:
        run = measure_file if arguments.giant else measure
        print(json.dumps(run(*arguments.one, arguments.draws)))
        return
    if arguments.giant:
        giant(arguments.draws)
        return
    results = []
    # ImageNet in small and large batches, and a data set that fits the cache.
    for shape in ((1_281_167, 256), (1_281_167, 1000), (60_000, 256)):
        command = [sys.executable, __file__, "--draws", str(arguments.draws), "--one", *map(str, shape)]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        print(json.dumps(results[-1], indent=2))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"draws": arguments.draws, "runs": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
