"""Time of `dpaudit report`, from JSON to HTML and PDF, with the start of Python and every import.

Each figure is the fastest of several runs of a fresh process: seconds on the clock, and seconds of
processor time, which do not depend on what else the machine does.

    python benchmarks/reports.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "reports.json"
SAMPLES = sorted((ROOT / "reports").glob("sample-*.json"))
QUESTIONS = (("HTML", ("--html",), 1.5), ("HTML and PDF", ("--html", "--pdf"), 2.5))
RUNS = 7


def run_once(arguments: list[str]) -> tuple[float, float]:
    """Run a fresh Python; give its seconds on the clock and of processor time."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    elapsed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fastest(arguments: list[str]) -> tuple[float, float]:
    """Give the fastest of several runs, after one that warms the disk cache."""
    run_once(arguments)
    pairs = [run_once(arguments) for _ in range(RUNS)]
    return min(elapsed for elapsed, _ in pairs), min(used for _, used in pairs)


def measure(sample: Path, what: str, flags: tuple[str, ...], limit: float) -> dict[str, Any]:
    """Time one report of one sample."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, used = fastest(["-m", "dpaudit", "report", str(sample), *flags, "-o", folder])
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {
        "sample": sample.stem,
        "question": what,
        "seconds": round(seconds, 3),
        "processor_seconds": round(used, 3),
        "limit_seconds": limit,
        "over_limit": round(seconds / limit, 3),
        "kilobytes": round(size / 1000),
    }


def main() -> None:
    """Time every sample, print and keep the results."""
    bare = fastest(["-c", "pass"])
    results = {
        "python_alone_seconds": round(bare[0], 3),
        "reports": [measure(sample, *question) for sample in SAMPLES for question in QUESTIONS],
    }
    text = json.dumps(results, indent=2) + "\n"
    print(text, end="")
    RESULT.write_text(text)


if __name__ == "__main__":
    main()
