"""Peak memory of one method on one model, in a process of its own; the largest batch that fits a limit.

python benchmarks/clipping_memory.py CASE METHOD BATCH [--fastdp PATH]    prints one line of JSON
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from clipping_models import CASES
from clipping_steps import add_fastdp, make_step


def peaks(case: str, method: str, batch: int, fastdp: str | None = None) -> dict[str, float] | None:
    """Measure in a fresh process; None where the method fails on the model.

    Returns:
      MiB above the imports and the batch: `model` alone; `first`, the highest of the first step (which
      measures routes); `steady`, the highest of the second and third.
    """
    command = [sys.executable, __file__, case, method, str(batch)]
    command += [] if fastdp is None else ["--fastdp", fastdp]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if answer.returncode else json.loads(answer.stdout.splitlines()[-1])


def largest_batch(case: str, method: str, limit: float, fastdp: str | None = None) -> int:
    """Give a batch within `limit` MiB, model included; 2 % more do not fit. Every peak is measured."""
    measured: dict[int, float] = {}
    batch = CASES[case].size
    for _ in range(12):
        found = peaks(case, method, batch, fastdp)
        measured[batch] = float("inf") if found is None else found["steady"]
        fits = max((size for size, peak in measured.items() if peak <= limit), default=0)
        exceeds = min((size for size, peak in measured.items() if peak > limit), default=4 * batch)
        if exceeds - fits <= max(1, fits // 50):
            break
        batch = (fits + exceeds) // 2
    return fits


def measure(name: str, method: str, size: int) -> dict[str, float]:
    case = CASES[name]
    torch.manual_seed(0)
    batch = case.batch(size)
    warm_imports(name, method)
    start = resident("VmRSS")
    model = case.make()
    own = resident("VmRSS") - start
    step = make_step(method, case, model, size)
    step(*batch)
    first = resident("VmHWM") - start
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    step(*batch)
    step(*batch)
    return {"model": own / 1024, "first": first / 1024, "steady": (resident("VmHWM") - start) / 1024}


def warm_imports(name: str, method: str) -> None:
    """Import what is imported once and compile what is compiled once: neither grows with the batch."""
    if "gpt2" in name or "roberta" in name:
        import transformers

        _ = transformers.GPT2LMHeadModel, transformers.RobertaForSequenceClassification
    if method.startswith("fastdp"):
        import fastDP  # noqa: F401
    if method.startswith("opacus"):
        import opacus.grad_sample  # noqa: F401
    # The libraries of matrix products and convolutions take buffers at their first use, whoever calls.
    layers = [
        torch.nn.Conv2d(4, 64, 3),
        torch.nn.GroupNorm(1, 64),
        torch.nn.Flatten(2),
        torch.nn.Linear(196, 64),
    ]
    small = torch.nn.Sequential(*layers, torch.nn.LayerNorm(64), torch.nn.Flatten())
    batch = torch.randn(8, 4, 16, 16), torch.randint(5, (8,))
    for once in ["non_private", *([method] if method.startswith("bk") else [])]:
        make_step(once, CASES["mlp4096"], small, 8)(*batch)


def give_memory_back() -> None:
    """Let every tensor have pages of its own: the resident set is then what lives, not what malloc keeps."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(-3, 2**16)  # M_MMAP_THRESHOLD


def resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", choices=list(CASES))
    parser.add_argument("method")
    parser.add_argument("batch", type=int)
    parser.add_argument("--fastdp")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    give_memory_back()
    add_fastdp(given.fastdp)
    print(json.dumps(measure(given.case, given.method, given.batch)))


if __name__ == "__main__":
    main()
