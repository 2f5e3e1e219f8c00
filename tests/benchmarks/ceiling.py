"""How close training comes to what the processor can multiply; writes results/ceiling.csv and ceiling.md.

    python -m tests.benchmarks.ceiling [ROUNDS]

The ceiling is the largest rate of a product of two square float32 matrices (1,024 and 2,048), all cores at once, one process
on each, by torch as it comes (MKL) and with the library that actbench takes (oneDNN). Training is the training loop alone:
its operations are those of its matrix products; activations, sums and the rest count as time, not as operations.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from actbench.base import machine
from actbench.data.datasets import load_dataset
from actbench.launch.local import LocalLauncher
from actbench.plan.costs import step_flop
from actbench.plan.packing import make_packs
from actbench.study.spec import RunSpec
from tests.benchmarks.grid import few_to_measure, specs_of, stacked_seconds
from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown

WIDTHS, DEPTHS, BATCH, NETWORKS = (64, 128, 256, 512, 1024), (1, 4, 10), 128, 400
SECONDS = 0.5


def square_product(kind: str) -> None:
    """Prints the best GFLOP/s of this process."""
    import torch

    from actbench.engine.products import products

    torch.set_num_threads(1)
    best = 0.0
    with products(kind):
        for size in (1024, 2048):
            a, b = torch.randn(2, size, size)
            out, began = torch.mm(a, b), time.perf_counter()
            while time.perf_counter() - began < SECONDS:
                once = time.perf_counter()
                torch.mm(a, b, out=out)
                best = max(best, 2e-9 * size**3 / (time.perf_counter() - once))
    print(best)


def ceiling(kind: str, cores: int) -> float:
    """GFLOP/s of all cores at once."""
    command = [sys.executable, "-m", "tests.benchmarks.ceiling", "--product", kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(cores)]
    return sum(float(process.communicate()[0]) for process in started)


def main(rounds: int) -> None:
    cores = machine.cpu_count()
    rates: dict[tuple[int, int], list[float]] = {}
    sizes: dict[tuple[int, int], int] = {}
    ceilings: dict[str, list[float]] = {"plain": [], "onednn": []}
    with tempfile.TemporaryDirectory() as name:
        dataset = few_to_measure(Path(name))
        data = load_dataset(dataset, None)
        worked = replace(data.shape, features=data.shape.features - len(data.fixed_columns))
        parts = Path(name) / "parts"
        with LocalLauncher(cores, parts) as launcher:
            for _ in range(rounds):
                for kind, found in ceilings.items():
                    found.append(ceiling(kind, cores))
                for width in WIDTHS:
                    for depth in DEPTHS:
                        spec = RunSpec(width=width, depth=depth, batch_size=BATCH)
                        steps = max(3, min(60, round(SECONDS * 1e10 / step_flop(spec, worked))))
                        specs = [replace(s, batch_size=BATCH, train_size=BATCH * steps)
                                 for s in specs_of("mlp", width, depth, NETWORKS, dataset, steps)]  # fmt: skip
                        packs = sorted(make_packs(specs, {dataset: data.shape}, cores), key=len)[-cores:]
                        seconds = stacked_seconds(launcher, parts, packs, data, dataset)
                        rates.setdefault((width, depth), []).append(step_flop(specs[0], worked) / seconds / 1e9)
                        sizes[width, depth] = len(packs[-1])
    plain, best = (statistics.median(ceilings[kind]) for kind in ("plain", "onednn"))
    head = ["width", "depth", "networks in a pack", "GFLOP/s in training", "% of oneDNN's ceiling", "% of torch's own"]
    rows = []
    for (width, depth), found in rates.items():
        rate = statistics.median(found)
        rows.append([width, depth, sizes[width, depth], f"{rate:.0f}", f"{100 * rate / best:.0f}", f"{100 * rate / plain:.0f}"])
    machine_line = measured_on()
    write_csv("ceiling", head, rows, machine_line)
    lines = markdown(head, rows)
    lines += ["", f"Ceilings of all cores: {best:.0f} GFLOP/s with oneDNN, {plain:.0f} with torch's own (MKL)."]
    lines += [
        "",
        f"{machine_line}; batches of {BATCH}, medians of {rounds} rounds; `python -m tests.benchmarks.ceiling {rounds}`.",
    ]
    write_markdown("ceiling", lines)


if __name__ == "__main__":
    if "--product" in sys.argv:
        square_product(sys.argv[-1])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
