"""How a run grows with its networks, from 100 to 100,000: time, orchestration, memory, disk; writes results/scaling.csv and .md.

    python -m tests.benchmarks.scaling

Every run is a whole process with its workers: 784-4-4-10, an epoch of 1,000 images in batches of 100, all metrics at
initialisation and end. Orchestration is the processor time of the process that plans, hands out packs and writes; memory
is the most that a process holds resident, sampled fifty times a second.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown

NETWORKS = (100, 1_000, 10_000, 100_000)
STUDY = "width=4 depth=2 train_size=1000 epochs=1 seed=range(0,{})"


@dataclass
class Taken:
    """What a command took: seconds, processor seconds of its first process, most bytes of that and of any worker."""

    seconds: float = 0.0
    orchestration: float = 0.0
    own_bytes: int = 0
    worker_bytes: dict[int, int] = field(default_factory=dict)


def measure(command: list[str]) -> Taken:
    taken, began = Taken(), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                taken.orchestration = times.user + times.system
                taken.own_bytes = max(taken.own_bytes, process.memory_info().rss)
                for worker in process.children(recursive=True):
                    held = worker.memory_info().rss
                    taken.worker_bytes[worker.pid] = max(held, taken.worker_bytes.get(worker.pid, 0))
            time.sleep(0.02)
    assert child.returncode == 0, command
    taken.seconds = time.perf_counter() - began
    return taken


def main() -> None:
    rows, all_taken = [], []
    with tempfile.TemporaryDirectory() as name:
        for networks in NETWORKS:
            folder = Path(name) / str(networks)
            words = [*STUDY.format(networks).split(), "--out", str(folder), "--quiet"]
            taken = measure([sys.executable, "-m", "actbench", "run", "single", *words])
            all_taken.append(taken)
            disk = sum(file.stat().st_size for file in folder.iterdir())
            rows.append(
                [
                    f"{networks:,}",
                    f"{taken.seconds:.1f}",
                    f"{1000 * taken.seconds / networks:.2f}",
                    f"{1000 * taken.orchestration / networks:.2f}",
                    f"{taken.own_bytes / 2**20:.0f}",
                    f"{max(taken.worker_bytes.values()) / 2**20:.0f}",
                    f"{disk / networks / 1024:.1f}",
                ]
            )
            print(*rows[-1], sep="  ", file=sys.stderr)
    first, last, more = all_taken[0], all_taken[-1], NETWORKS[-1] - NETWORKS[0]
    per_network = 1000 * (last.seconds - first.seconds) / more
    orchestration = 1000 * (last.orchestration - first.orchestration) / more
    own = (last.own_bytes - first.own_bytes) / more / 1024
    head = ["networks", "seconds", "ms per network", "orchestration, ms per network", "MiB of the process that writes",
            "MiB of the largest worker", "KiB on disk per network"]  # fmt: skip
    machine_line = measured_on()
    write_csv("scaling", head, rows, machine_line)
    lines = markdown(head, rows)
    lines += [
        "",
        f"From {NETWORKS[0]:,} to {NETWORKS[-1]:,} networks, one more takes {per_network:.2f} ms, of which orchestration ",
    ]
    lines[-1] += f"{orchestration:.2f} ms on one core, and {own:.1f} KiB of the process that writes."
    lines += ["", f"{machine_line}; `python -m tests.benchmarks.scaling`."]
    write_markdown("scaling", lines)


if __name__ == "__main__":
    main()
