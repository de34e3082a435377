"""Print the tables of benchmarks/README.md from the results of the clipping benchmark.

python benchmarks/clipping_tables.py [--device cuda]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
METHODS = {
    "bk_mix_opt_without_noise": "ours, no noise", "bk_mix_opt": "ours",
    "bk_mix_opt_noise_ahead": "ours, noise on a second core",
    "bk_mix_opt_without_noise_blas": "ours by BLAS, no noise", "bk_mix_opt_blas": "ours by BLAS",
    "opacus_hooks": "Opacus hooks",
    "opacus_ghost": "Opacus ghost", "vmap": "vmap(grad)", "fastdp_MixOpt": "FastDP MixOpt",
    "fastdp_ghost": "FastDP ghost",
}  # fmt: skip


def table(rows: Mapping[str, Mapping[str, Any]], show: Callable[[Any], str], first: str) -> str:
    """Lay out {row: {method: figure}} as Markdown; a dash where nothing was measured."""
    columns = [method for method in METHODS if any(method in row for row in rows.values())]
    lines = [[first, *(METHODS[method] for method in columns)], ["---"] * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append([name, *(show(row[method]) if row.get(method) else "-" for method in columns)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def read(name: str) -> dict[str, Any]:
    path = RESULTS / name
    return json.loads(path.read_text()) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    suffix = "" if parser.parse_args().device == "cpu" else "_cuda"
    times = read(f"clipping{suffix}.json")
    rows = {f"{name} ({entry['batch']})": entry["methods"] for name, entry in times.items()}
    print(table(rows, lambda one: f"{one['processor_ratio']:.2f} / {one['wall_ratio']:.2f}", "model (batch)"))
    memory = read("clipping_memory.json")
    rows = {f"{name} ({entry['batch']})": entry["above_model_ratio"] for name, entry in memory.items()}
    print("\n" + table(rows, lambda ratio: f"{ratio:.2f}", "model (batch)"))
    for name, entry in read("clipping_largest.json").items():
        for limit, batches in entry.items():
            print("\n" + name, limit, batches)


if __name__ == "__main__":
    main()
