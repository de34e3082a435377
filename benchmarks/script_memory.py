"""What a long program recorded to disk (`--script --stream`) holds in memory: by the step, not by the draw.

A program of a million optimizer steps, each of it a real one of a model with one weight, is recorded twice:
with batches of 4 records, and of 40. It notes its own memory (RssAnon: what is not mapped from files)
after every tenth of its steps, and dpaudit that at the end, when the trace has been put together. Figures are
growths after the first tenth: bytes a step, and bytes for each of the 36 million draws that one has more than
the other. Limits: 64 bytes a step while it runs, and 0.1 bytes a draw.

    python benchmarks/script_memory.py [--steps 1000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = (4, 40)
PER_STEP, PER_DRAW = 64, 0.1
RESULTS = Path(__file__).parent / "results" / "script_memory.json"
PROGRAM = """
import json, sys
import torch
from torch.utils.data import DataLoader

steps, size = int(sys.argv[1]), int(sys.argv[2])
RECORDS = 100_000
torch.set_num_threads(1)

class Batches:
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps // 1000):
            for draw in torch.randint(0, RECORDS, (1000, size), generator=generator).tolist():
                yield draw

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return RECORDS
    def __getitems__(self, rows):
        return rows
    def __getitem__(self, row):
        return row

def memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024

weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([weight], lr=0.0, foreach=False)
seen = []
for number, _ in enumerate(DataLoader(Numbers(), batch_sampler=Batches(), collate_fn=lambda rows: None), 1):
    weight.grad = None
    weight.sum().backward()
    optimizer.step()
    if number % (steps // 10) == 0:
        seen.append(memory())
with open(sys.argv[3], "w") as file:
    json.dump(seen, file)
"""
RECORD = """
import sys
from pathlib import Path
from dpaudit.instrument.script import Program, record_script

steps, size, told = sys.argv[1:]
run = record_script(Program("train.py", (steps, size, told)), stream=Path("kept" + size))
assert run.main.recording.trace.draws == int(steps) * int(size)
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024)
"""


def record(folder: Path, steps: int, size: int) -> list[int]:
    """Give the memory after each tenth of the steps, and at the end."""
    told = folder / f"{size}.json"
    (folder / "train.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(steps), str(size), str(told)],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [*json.loads(told.read_text()), int(done.stdout)]


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        seen = {size: record(Path(folder), steps, size) for size in SIZES}
    growth = {size: told[9] - told[0] for size, told in seen.items()}
    draws = (SIZES[1] - SIZES[0]) * steps * 0.9
    result = {
        "steps": steps,
        "bytes_a_step": {str(size): round(grown / (0.9 * steps), 1) for size, grown in growth.items()},
        "bytes_a_step_at_the_end": {
            str(size): round((told[10] - told[0]) / (0.9 * steps), 1) for size, told in seen.items()
        },
        "bytes_a_draw": round((growth[SIZES[1]] - growth[SIZES[0]]) / draws, 4),
        "memory_mb": {str(size): [round(one / 1e6, 1) for one in told] for size, told in seen.items()},
    }
    print(json.dumps(result, indent=2))
    RESULTS.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    worst = max(result["bytes_a_step"].values())
    if worst > PER_STEP or result["bytes_a_draw"] > PER_DRAW:
        raise SystemExit("memory grows more than it may")


if __name__ == "__main__":
    main()
