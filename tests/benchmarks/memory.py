"""Compares the memory and time that a dry run forecasts with what the run takes; writes results/memory.csv and memory.md.

    python -m tests.benchmarks.memory

Studies of very different shapes, each as a whole process with its workers. Memory is the largest sum, sampled fifty times
a second, of the processes' resident memory, where what they share counts for each.
"""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

STUDIES = {
    "width 3, depth 4, 20,000 networks at initialisation": "dataset=gaussian width=3 depth=4 epochs=0 seed=range(0,20000)",
    "width 64, depth 4, 128 networks": "activation=relu,tanh lr=0.01,0.1 seed=range(0,32) epochs=1",
    "width 64, depth 50": "depth=50 seed=range(0,32) epochs=1",
    "width 256, Adam": "width=256 optimizer=adam seed=range(0,16) epochs=1",
    "width 1,024, SGD with momentum": "width=1024 momentum=0.9 seed=0,1,2 epochs=1",
    "width 2,048, at initialisation": "width=2048 epochs=0 seed=range(0,8)",
    "cnn, 32 channels": "model=cnn width=32 train_size=2000 epochs=1 seed=0,1,2,3",
    "cnn, 4 channels, stacked": "model=cnn width=4 train_size=5000 epochs=1 seed=range(0,16)",
    "resnet, batch norm": "model=resnet width=16 depth=9 norm=batch train_size=2000 epochs=1 seed=0,1,2,3",
    "rnn": "model=rnn depth=1 epochs=1 seed=range(0,32)",
    "lstm over pixels": "model=lstm sequence=pixels depth=1 width=32 train_size=1000 epochs=1 seed=0,1,2,3",
    "autoencoder": "model=autoencoder hidden=256-64-256 epochs=1 seed=range(0,16)",
    "maxout with dropout": "activation=maxout dropout=0.3 width=128 epochs=1 seed=range(0,16)",
    "batch 10,000": "width=128 batch_size=10000 seed=range(0,16) epochs=2",
    "batch 1, at initialisation: the largest packs": "width=1024 batch_size=1 epochs=0 seed=range(0,24)",
}


def resident(process: psutil.Process) -> int:
    """Bytes that a process and its children hold."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += one.memory_info().rss
    return total


def peak_of(command: list[str]) -> tuple[float, float]:
    """(seconds, bytes at the peak) of a command."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, resident(process))
            time.sleep(0.02)
    assert child.returncode == 0, command
    return time.perf_counter() - began, peak


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in STUDIES.items():
            command = [sys.executable, "-m", "actbench", "run", "single", *overrides.split(), "--out", f"{folder}/{len(rows)}"]
            forecast = json.loads(subprocess.run([*command, "--dry-run", "--json"], check=True, capture_output=True).stdout)
            seconds, peak = peak_of([*command, "--quiet"])
            ratios = seconds / forecast["seconds"], peak / forecast["memory_bytes"]
            figures = forecast["memory_bytes"] / 2**30, peak / 2**30, ratios[1], forecast["seconds"], seconds, ratios[0]
            rows.append([name, *(f"{figure:.2f}" for figure in figures)])
            print(*rows[-1], sep="  ", file=sys.stderr)
    head = ["study", "forecast GiB", "peak GiB", "peak over forecast", "forecast s", "taken s", "taken over forecast"]
    out = Path("results")
    with (out / "memory.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * 6], *rows)]
    lines += ["", f"{psutil.cpu_count()} cores, {time.strftime('%Y-%m-%d')}; `python -m tests.benchmarks.memory`."]
    (out / "memory.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
