"""Compares, in one run, ways to train the same sweep as whole processes; writes results/speed.csv and speed.md.

    pip install jax
    python -m tests.benchmarks.speed [ROUNDS]

Every round runs all ways in turn, and medians are compared, since machines are noisy. The multirun trains one network per
activation, and its time is scaled up; the others train all 256.
"""

from __future__ import annotations

import statistics
import struct
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from tests.benchmarks.sweep import ACTIVATIONS, EPOCHS, networks, overrides
from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown


def write_idx(folder: Path) -> None:
    """mnist-12k as the files that torchvision.datasets.MNIST reads."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    files = np.load("actbench/data/mnist-20k.npz")  # mnist-12k has every 5th of its test images
    archive = {name: values[::5] if "test" in name else values for name, values in files.items()}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        x, y = archive[f"x_{split}"], archive[f"y_{split}"].astype(np.uint8)
        x = x.reshape(len(x), 28, 28)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, *x.shape) + x.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, len(y)) + y.tobytes())


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(rounds: int) -> None:
    everything, count = len(networks()), len(ACTIVATIONS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_idx(folder)
        multirun = ["tests.benchmarks.hydra_multirun", name, "--multirun", f"+activation={','.join(ACTIVATIONS.values())}"]
        own = ["actbench", "run", "single", *overrides(), "--out", f"{name}/r", "--fresh", "--quiet"]
        ways = {
            "Hydra multirun, torchvision's data set, DataLoader": (
                [*multirun, f"hydra.sweep.dir={name}/sweep"],
                everything / count,
            ),
            "plain torch loop, data in memory": (["tests.benchmarks.plain_loop"], 1.0),
            "JAX, jit(vmap(scan)), no metric": (["tests.benchmarks.jax_vmap"], 1.0),
            "actbench, all metrics at initialisation and end": ([*own, f"eval_every={EPOCHS}"], 1.0),
            "actbench, all metrics at initialisation and after every epoch": (own, 1.0),
        }
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (command, scale) in ways.items():
                taken[way].append(scale * seconds(command))
                print(f"{taken[way][-1]:8.1f} s  {way}", file=sys.stderr)
    jax = metadata.version("jax")
    machine_line = measured_on(f"jax {jax}")
    plain = statistics.median(taken["plain torch loop, data in memory"])
    rows = []
    for way, times in taken.items():
        median = statistics.median(times)
        rows.append(
            [
                way,
                f"{median:.1f}",
                f"{min(times):.1f}",
                f"{max(times):.1f}",
                f"{1000 * median / everything:.0f}",
                f"{plain / median:.2f}",
            ]
        )
    head = ["way to train 256 networks", "seconds", "min", "max", "ms per network", "speed over the plain loop"]
    write_csv("speed", head, rows, machine_line)
    lines = markdown(head, rows)
    lines += ["", f"{machine_line}; medians of {rounds} rounds; `python -m tests.benchmarks.speed {rounds}`."]
    lines += [f"The multirun trained {count} networks a round and is scaled to {everything}."]
    write_markdown("speed", lines)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
