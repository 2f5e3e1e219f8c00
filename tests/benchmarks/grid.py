"""Is training here ever slower than a plain torch loop? Walks width × depth × networks; writes results/grid.csv and grid.md.

    python -m tests.benchmarks.grid [ROUNDS]

Compared is the time per network and training step, without starting processes, drawing weights and measuring, on MNIST's images in batches of 100: the plain loop trains one network after
another with both cores; actbench trains the packs that its plan makes, as many at a time as there are cores. Of many equal
packs, one per core is timed.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from actbench.base import machine
from actbench.data.datasets import Data, load_dataset
from actbench.launch.dispatch import dispatch
from actbench.launch.events import Failed
from actbench.launch.local import LocalLauncher
from actbench.plan.costs import step_flop
from actbench.plan.pack import Pack
from actbench.plan.packing import make_packs
from actbench.results.parts import part_name, read_part, remove_part
from actbench.study.spec import RunSpec
from tests.benchmarks.tables import measured_on, write_csv, write_markdown

BATCH = 100
WIDTHS, DEPTHS, NETWORKS = (2, 16, 64, 256, 1024), (1, 4, 10, 50), (1, 10, 100, 1000)
CNN_WIDTHS, CNN_DEPTHS, CNN_NETWORKS = (2, 8, 32), (2, 4, 8), (1, 10, 100)
SECONDS = 0.2  # what a sample of the plain loop should take


def few_to_measure(folder: Path) -> str:
    """MNIST's images with a test split of 16, so that steps are what takes the time."""
    files = np.load("actbench/data/mnist-20k.npz")  # mnist-12k has every 5th of its test images
    archive = {name: values[::5] if "test" in name else values for name, values in files.items()}
    arrays = {name: archive[name][: 16 if "test" in name else None] for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(folder / "few.npz", **arrays)
    return str(folder / "few.npz")


def specs_of(model: str, width: int, depth: int, networks: int, dataset: str, steps: int) -> list[RunSpec]:
    common = dict(model=model, width=width, depth=depth, dataset=dataset, batch_size=BATCH, epochs=1, probe_size=16)
    seeds = min(networks, 5)
    rates = [0.001 * (1 + k) / networks for k in range(networks // seeds)]
    common["train_size"] = BATCH * steps
    return [RunSpec(**common, activation="relu", init="he_normal", seed=s, lr=lr) for lr in rates for s in range(seeds)]


class PlainLoop:
    """One network of torch.nn in training, with both cores."""

    def __init__(self, model: str, width: int, depth: int, data: Data) -> None:
        import torch
        from torch import nn

        layers: list[nn.Module] = []
        x = torch.from_numpy(data.x_train).float().sub_(33).div_(79)
        if model == "cnn":
            from actbench.plan.architecture import architecture

            sizes = architecture(RunSpec(model="cnn", width=width, depth=depth), data.shape)
            for layer in sizes.layers:
                layers += [nn.Conv2d(layer.inputs, layer.pre, 3, padding=1), nn.ReLU()]
                layers += [nn.MaxPool2d(2)] if layer.pooled else []
            layers += [nn.Flatten(), nn.Linear(sizes.last_inputs, 10)]
            x = x.view(-1, 1, 28, 28)
        else:
            for fan_in in (784, *[width] * (depth - 1)):
                layers += [nn.Linear(fan_in, width), nn.ReLU()]
            layers.append(nn.Linear(width, 10))
        self.net = nn.Sequential(*layers)
        if model == "cnn":
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001)
        self.x, self.y, self.torch = x, torch.from_numpy(data.y_train), torch

    def seconds(self, steps: int) -> float:
        """Of one step, the mean over so many."""
        functional = self.torch.nn.functional
        began = time.perf_counter()
        for index in self.torch.randperm(len(self.x))[: steps * BATCH].split(BATCH):
            self.optimizer.zero_grad()
            functional.cross_entropy(self.net(self.x[index]), self.y[index]).backward()
            self.optimizer.step()
        return (time.perf_counter() - began) / steps


def stacked_seconds(launcher: LocalLauncher, parts: Path, packs: list[Pack], data: Data, name: str) -> float:
    """Per network and step, of packs that train side by side and write to ``parts``."""
    assert not [e for e in dispatch(packs, launcher, {name: data.shape}) if isinstance(e, Failed)]
    seconds = []
    for pack in packs:
        part = parts / part_name(spec.run_id for spec in pack.specs)
        seconds.append(read_part(part).seconds["training"] / len(pack))
        remove_part(part)  # the next round's would else be taken for it
    return statistics.mean(seconds) / (packs[0].shared.train_size // BATCH) / len(packs)


def main(rounds: int) -> None:
    cores = machine.cpu_count()
    grid = [("mlp", *cell) for cell in itertools.product(WIDTHS, DEPTHS)]
    grid += [("cnn", *cell) for cell in itertools.product(CNN_WIDTHS, CNN_DEPTHS)]
    head = ["model", "width", "depth", "networks", "plain loop, µs", "actbench, µs", "ratio", "networks in a pack"]
    rows: list[list] = []
    with tempfile.TemporaryDirectory() as name:
        dataset = few_to_measure(Path(name))
        data = load_dataset(dataset, None)
        parts = Path(name) / "parts"
        with LocalLauncher(cores, parts) as many, LocalLauncher(1, parts) as one:
            for model, width, depth in grid:
                plain = PlainLoop(model, width, depth, data)
                plain.seconds(2)
                steps = max(3, min(60, round(SECONDS / plain.seconds(2))))
                times: dict[int, list[float]] = {}
                plain_times = []
                sample = {}
                for networks in NETWORKS if model == "mlp" else CNN_NETWORKS:
                    packs = make_packs(specs_of(model, width, depth, networks, dataset, steps), {dataset: data.shape}, cores)
                    sample[networks] = sorted(packs, key=len)[-cores:]
                plain.seconds(steps)  # each way once to warm up
                for packs in sample.values():
                    stacked_seconds(many if len(packs) > 1 else one, parts, packs, data, dataset)
                for _ in range(rounds):
                    plain_times.append(plain.seconds(steps))
                    for networks, packs in sample.items():
                        launcher = many if len(packs) > 1 else one
                        times.setdefault(networks, []).append(stacked_seconds(launcher, parts, packs, data, dataset))
                for networks, taken in times.items():
                    base, own = 1e6 * statistics.median(plain_times), 1e6 * statistics.median(taken)
                    rows.append(
                        [
                            model,
                            width,
                            depth,
                            networks,
                            round(base),
                            round(own, 1),
                            round(base / own, 2),
                            len(sample[networks][-1]),
                        ]
                    )
                    print(
                        *rows[-1], f"{step_flop(sample[networks][0].shared, data.shape) / own / 1e3:.0f} GFLOP/s", file=sys.stderr
                    )
    machine_line = measured_on()
    write_csv("grid", head, rows, machine_line)
    lines = ["Speed over the plain loop, per network and step. Columns: networks in the sweep.", ""]
    every = sorted({row[3] for row in rows})
    lines += [f"| {' | '.join(['model', 'width', 'depth', *map(str, every)])} |", f"|---|{'---:|' * (2 + len(every))}"]
    for model, width, depth in grid:
        ratios = {row[3]: f"{row[6]:.2f}" for row in rows if row[:3] == [model, width, depth]}
        lines.append(f"| {model} | {width} | {depth} | {' | '.join(ratios.get(n, '') for n in every)} |")
    lines += ["", f"{machine_line}; medians of {rounds} rounds; `python -m tests.benchmarks.grid {rounds}`."]
    write_markdown("grid", lines)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
