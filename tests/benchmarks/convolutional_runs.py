"""Convolutional networks as whole processes: actbench with all metrics against a plain loop; writes results/convolutional_runs.*.

    python -m tests.benchmarks.convolutional_runs CIFAR.npz [ROUNDS]

CIFAR.npz holds CIFAR-10's images, [N, 32, 32, 3] and uint8, as x_train, y_train, x_test and y_test. Every round runs all ways in
turn. Each trains four networks, two learning rates by two seeds; actbench measures all metrics at initialisation and end.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown

DEPTH, BATCH, EPOCHS, RATES, SEEDS = 4, 64, 4, (0.01, 0.03), 2
ACTBENCH, LOOP = "actbench, all metrics at both ends", "plain torch loop, channels_last, both cores"


def own(dataset: str, width: int, out: str) -> list[str]:
    """The command that trains the networks with actbench."""
    rates = ",".join(map(str, RATES))
    settings = [f"dataset={dataset}", "model=cnn", f"width={width}", f"depth={DEPTH}", f"lr={rates}", f"seed=range(0,{SEEDS})"]
    settings += [f"batch_size={BATCH}", f"epochs={EPOCHS}", f"eval_every={EPOCHS}", "validation_fraction=0"]
    return ["actbench", "run", "single", *settings, "--out", out, "--fresh", "--quiet"]


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main(cifar: str, rounds: int) -> None:
    mnist = "actbench/data/mnist-20k.npz"
    kinds = {"4 × 32 on CIFAR-10": (cifar, cifar, 32), "4 × 16 on MNIST": ("mnist-12k", mnist, 16)}
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for kind, (dataset, path, width) in kinds.items():
                plain = ["tests.benchmarks.plain_convolutions", path, str(width)]
                for way, command in ((ACTBENCH, own(dataset, width, f"{folder}/{width}")), (LOOP, plain)):
                    taken.setdefault((kind, way), []).append(seconds(command))
                    print(f"{taken[kind, way][-1]:8.1f} s  {kind}: {way}", file=sys.stderr)
    rows = []
    count = len(RATES) * SEEDS
    for (kind, way), times in taken.items():
        ratios = [loop / mine for loop, mine in zip(taken[kind, LOOP], times, strict=True)]
        each = [statistics.median(times) / count, min(times) / count, max(times) / count]
        rows.append([f"{kind}: {way}", *(f"{value:.2f}" for value in each), f"{statistics.median(ratios):.2f}"])
    head = ["networks: way", "seconds a network", "least", "most", "speed over the loop"]
    line = measured_on()
    write_csv("convolutional_runs", head, rows, line)
    lines = markdown(head, rows)
    lines += [
        "",
        f"{line}; whole processes, {EPOCHS} epochs in batches of {BATCH}, {count} networks; medians of {rounds} rounds, of",
    ]
    lines += [f"speeds round by round; `python -m tests.benchmarks.convolutional_runs CIFAR.npz {rounds}`."]
    write_markdown("convolutional_runs", lines)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
