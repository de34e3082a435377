"""Time and memory of a DP-SGD step against the non-private step: ours and the peers', in one interleaved run.

    python benchmarks/clipping.py [--cases vgg19 ...] [--methods non_private bk_mix_opt ...] [--rounds 7]
                                  [--device cuda] [--fastdp PATH] [--fresh]
    python benchmarks/clipping.py --memory [--cases ...] [--methods ...]
    python benchmarks/clipping.py --largest 2048 [--cases vgg19] [--methods ...]

A step is zero_grad, forward, backward, clip, noise, update, on one thread. Methods take turns in one
process, so that a busy machine slows all of them alike; a ratio is the median over the rounds of the time of
a method over that of `non_private` in the same round. Wall time and processor time are both given: the
latter does not count what else runs, nor the noise that `*_noise_ahead` draws on a second core. Every round
is kept in the results, and later runs (all of them time `non_private`) are added unless `--fresh`.

Malloc is told to keep freed pages: otherwise page faults are measured, which hurt those methods most that
allocate most. With `--memory` it is told to give them back, and each cell has a process of its own: `steady`
is the highest resident set of the second and third step, `first` of the first, in MiB above the imports.
`--largest LIMIT` gives the largest batch whose steady peak stays within LIMIT MiB, by bisection.

Ours multiplies by the faster of two libraries, the non-private step by that which PyTorch takes; `*_blas` is
ours with the latter, and so tells the price of privacy alone.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import json
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from clipping_memory import largest_batch, peaks
from clipping_models import CASES
from clipping_steps import METHODS, Step, add_fastdp, make_step

RESULTS = Path(__file__).parent / "results"
Rounds = dict[str, dict[str, list[float]]]


def keep_memory() -> None:
    """Let malloc hold on to freed pages: page faults, not arithmetic, would be measured otherwise."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block of its own
        libc.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def time_case(name: str, methods: list[str], rounds: int, device: str) -> Rounds:
    case = CASES[name]
    torch.manual_seed(0)
    base = case.make().to(device)
    batch = tuple(part.to(device) for part in case.batch(case.size))
    steps: dict[str, Step] = {}
    for method in methods:
        try:
            step = make_step(method, case, copy.deepcopy(base), case.size)
            step(*batch)  # probes, measurements of routes, allocations
            step(*batch)
            steps[method] = step
        except Exception as error:
            print(f"{name:14} {method:26} fails: {type(error).__name__}: {str(error).splitlines()[0][:80]}")
    found: Rounds = {method: {"wall": [], "processor": []} for method in steps}
    for _ in range(rounds):
        for method, step in steps.items():
            wall, processor = timed(step, batch, device)
            found[method]["wall"].append(wall)
            found[method]["processor"].append(processor)
    return found


def timed(step: Step, batch: Any, device: str) -> tuple[float, float]:
    """Seconds by the clock on the wall, and of this thread."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, own = time.perf_counter(), time.thread_time()
    step(*batch)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.thread_time() - own


def summary(runs: list[Rounds]) -> dict[str, dict[str, float]]:
    """Median seconds, and medians of the ratios to the non-private step of the same round."""
    result: dict[str, dict[str, float]] = {}
    for method in dict.fromkeys(method for run in runs for method in run):
        own = [run for run in runs if method in run]
        figures = {"seconds": statistics.median(t for run in own for t in run[method]["wall"])}
        figures["rounds"] = sum(len(run[method]["wall"]) for run in own)
        for clock in ("wall", "processor"):
            pairs = [(run[method][clock], run["non_private"][clock]) for run in own]
            ratios = [mine / plain for left, right in pairs for mine, plain in zip(left, right, strict=True)]
            figures[f"{clock}_ratio"] = statistics.median(ratios)
        result[method] = figures
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--fastdp", help="a checkout of fast-differential-privacy")
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--largest", type=float, metavar="MIB", help="find the largest batch within MIB")
    parser.add_argument("--fresh", action="store_true", help="drop the rounds of earlier runs")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device, nothing measured")
        return
    methods = given.methods or [*METHODS, *add_fastdp(given.fastdp)]
    methods = ["non_private", *(method for method in methods if method != "non_private")]
    if given.memory or given.largest:
        methods = given.methods or [
            m for m in methods if not m.endswith(("_without_noise", "_ahead", "_blas"))
        ]
        measure_memory(given.cases, methods, given.largest, given.fastdp)
        return
    keep_memory()
    target = RESULTS / f"clipping{'' if given.device == 'cpu' else '_cuda'}.json"
    for name in given.cases:
        results = json.loads(target.read_text()) if target.exists() else {}
        runs = [time_case(name, methods, given.rounds, given.device)]
        known = results.get(name, {})
        same = known.get("torch") == torch.__version__ and known.get("batch") == CASES[name].size
        if same and not given.fresh:
            runs = [*known.get("runs", []), *runs]
        found = summary(runs)
        results[name] = {
            "batch": CASES[name].size, "torch": torch.__version__, "device": device_name(given.device),
            "methods": found, "runs": runs,
        }  # fmt: skip
        write(target, results)
        show(name, found)


def measure_memory(cases: list[str], methods: list[str], limit: float | None, fastdp: str | None) -> None:
    target = RESULTS / ("clipping_memory.json" if limit is None else "clipping_largest.json")
    for name in cases:
        results = json.loads(target.read_text()) if target.exists() else {}
        entry = results.setdefault(name, {})
        if limit is None:
            entry |= {"batch": CASES[name].size, "torch": torch.__version__}
            for method in methods:
                entry.setdefault("mib", {})[method] = peaks(name, method, CASES[name].size, fastdp)
            entry["above_model_ratio"] = above_model(entry["mib"])
            print(f"{name:14} " + "  ".join(f"{m} {r:.2f}" for m, r in entry["above_model_ratio"].items()))
        else:
            batches = entry.setdefault(f"{limit:g} MiB", {})
            for method in methods:
                batches[method] = largest_batch(name, method, limit, fastdp)
                print(
                    f"{name:14} {method:26} largest batch within {limit:g} MiB: {batches[method]}", flush=True
                )
        write(target, results)


def above_model(mib: dict[str, dict[str, float] | None]) -> dict[str, float]:
    """Peak above the model, as a ratio to the non-private one."""
    plain = mib["non_private"] or {"model": 0.0, "steady": float("nan")}
    return {
        method: (found["steady"] - plain["model"]) / (plain["steady"] - plain["model"])
        for method, found in mib.items()
        if found is not None
    }


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu, one thread"


def show(name: str, found: dict[str, dict[str, float]]) -> None:
    for method, figures in found.items():
        print(f"{name:14} {method:26} " + "  ".join(f"{k} {v:.3f}" for k, v in figures.items()), flush=True)


def write(target: Path, results: dict[str, Any]) -> None:
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rounded(results), indent=1, sort_keys=True) + "\n")


def rounded(value: Any) -> Any:
    """Keep five digits: more are noise, and make the file long."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return [rounded(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
