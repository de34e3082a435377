"""What `dpaudit sampler --script` costs: a training step under the recorder over the same step without.

A small convolutional network on pictures of 3 x 32 x 32, batches of 64, on one CPU thread: plain SGD,
and the same with two worker processes that read the records. Epochs with and without the recorder
alternate in one process, each program run from its file as `__main__`; the ratio is that of the
medians of the epochs. Time is CPU time of the training process, which other load on the machine does
not lengthen: with workers that is the process that would wait. Limit: 1.02.

    python benchmarks/script_overhead.py
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
from pathlib import Path

from dpaudit.instrument.script import Program, record_script
from dpaudit.instrument.script.launch import run_program

LIMIT = 1.02
ROUNDS = 10
RESULTS = Path(__file__).parent / "results" / "script_overhead.json"
PROGRAM = """
import json, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

workers = int(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
data = TensorDataset(torch.randn(1024, 3, 32, 32), torch.randint(0, 10, (1024,)))
model = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(32 * 8 * 8, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
loader = DataLoader(data, batch_size=64, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
clock = time.process_time
times = []
for epoch in range(4):
    start = clock()
    for inputs, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    if epoch:  # the first one warms up
        times.append((clock() - start) / len(loader))
with open(sys.argv[2], "a") as file:
    file.write(json.dumps(times) + "\\n")
"""


def compare(folder: Path, workers: int) -> dict[str, float]:
    """Alternate runs with and without the recorder; give seconds for a step and their ratio."""
    script = folder / "train.py"
    script.write_text(PROGRAM)
    out = {name: folder / f"{name}-{workers}.jsonl" for name in ("bare", "recorded")}
    for _ in range(ROUNDS):
        with contextlib.redirect_stdout(open(os.devnull, "w")):
            run_program(Program(str(script), (str(workers), str(out["bare"]))))
            run = record_script(Program(str(script), (str(workers), str(out["recorded"]))))
    if run.steps != 64:
        raise SystemExit(f"64 steps were expected, {run.steps} were recorded")
    times = {
        name: statistics.median(value for line in path.read_text().splitlines() for value in json.loads(line))
        for name, path in out.items()
    }
    return {
        "bare_ms_per_step": round(1e3 * times["bare"], 3),
        "recorded_ms_per_step": round(1e3 * times["recorded"], 3),
        "ratio": round(times["recorded"] / times["bare"], 4),
    }


def main() -> None:
    """Print the comparison and keep it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = {
            "small CNN": compare(Path(folder), 0),
            "small CNN, two worker processes": compare(Path(folder), 2),
        }
    report = {"limit": LIMIT, "worst_ratio": max(row["ratio"] for row in rows.values()), "programs": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    print(json.dumps(report, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
