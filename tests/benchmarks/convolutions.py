"""Compares ways to train convolutional networks on a CPU, step by step; writes results/convolutions.csv and convolutions.md.

    python -m tests.benchmarks.convolutions [ROUNDS]

For every shape: actbench's training step as it is planned, in packs of 8 networks, and in packs of one; and a plain torch.nn
module, one network after another, in channels_last and in torch's default layout. One core, in turns, medians; milliseconds of
the processor's time per network and step, since others may be using the machine.
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import nn

from actbench.data.datasets import Data
from actbench.engine.device_data import DeviceData
from actbench.engine.products import products
from actbench.engine.trainer import Trainer
from actbench.plan import costs
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.plan.packing import make_packs
from actbench.study.load import normalise
from actbench.study.spec import RunSpec
from tests import oracle

SHAPES = [  # width, depth, side, channels, batch, model
    (2, 4, 28, 1, 100, "cnn"), (3, 4, 28, 1, 100, "cnn"), (4, 4, 28, 1, 100, "cnn"), (6, 4, 28, 1, 100, "cnn"),
    (4, 4, 32, 3, 100, "cnn"), (6, 4, 32, 3, 100, "cnn"), (8, 4, 28, 1, 100, "cnn"), (2, 20, 28, 1, 20, "cnn"), (8, 20, 28, 1, 20, "cnn"),
    (16, 4, 32, 3, 10, "cnn"), (32, 8, 32, 3, 4, "cnn"), (8, 9, 32, 3, 20, "resnet"),
    (16, 4, 32, 3, 100, "cnn"), (32, 4, 32, 3, 100, "cnn"), (64, 4, 32, 3, 50, "cnn"), (16, 30, 32, 3, 50, "cnn"),
    (16, 9, 32, 3, 50, "resnet"),
]  # fmt: skip


def step_of_actbench(specs: list[RunSpec], data: Data, most: int | None) -> tuple[Callable[[], None], int]:
    """A training step of a pack, of ``most`` networks or as planned, and how many networks it holds."""
    size = (lambda *_, **__: most) if most else costs.networks_per_pack
    with (
        mock.patch("actbench.plan.packing.networks_per_pack", size),
        mock.patch("actbench.plan.pack_plan.networks_per_pack", size),
    ):
        pack = make_packs(specs, {"random": data.shape})[0]
        plan = plan_pack(pack, data.shape)
    on_device = DeviceData(data, plan, "cpu")
    with torch.no_grad():
        trainer = Trainer(plan, on_device)
    index = on_device.order(pack.seeds, 1)[:, : specs[0].batch_size]

    def step() -> None:
        with torch.no_grad(), products(plan.products):
            trainer.step(index)

    return step, len(pack)


def step_of_torch(spec: RunSpec, data: DeviceData, layout: torch.memory_format) -> Callable[[], None]:
    """A plain module's step: forward, loss, backward, torch.optim."""
    net = oracle.network(spec, data).float().to(memory_format=layout).train()
    update = torch.optim.SGD(net.parameters(), lr=spec.lr)
    height, width, channels = data.shape.image or (0, 0, 0)
    x, y = data.batch(data.order((0,), 1)[:, : spec.batch_size])
    images = x[0].view(-1, height, width, channels).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    flat = images.permute(0, 2, 3, 1).reshape(len(images), -1)

    def step() -> None:
        update.zero_grad()
        nn.functional.cross_entropy(net(flat), y[0]).backward()
        update.step()

    return step


def main(rounds: int) -> None:
    rows = []
    for width, depth, side, channels, batch, model in SHAPES:
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 255, (200, side * side * channels), dtype=np.uint8), rng.integers(0, 10, 200)
        image = Data("random", x, y, x, y, 10, (side, side, channels))
        common = dict(dataset="random", model=model, width=width, depth=depth, batch_size=batch, epochs=1, lr=1e-4, probe_size=16)
        specs = [normalise({**common, "seed": 0, "init_gain": 0.5 + k / 16}) for k in range(8)]
        data = DeviceData(image, plan_pack(Pack((specs[0],), (0,)), image.shape), "cpu")
        ways: dict[str, tuple[Callable[[], None], int]] = {
            "actbench": step_of_actbench(specs, image, None),
            "8 stacked": step_of_actbench(specs, image, 8),
            "one": step_of_actbench(specs, image, 1),
            "torch, channels_last": (step_of_torch(specs[0], data, torch.channels_last), 1),
            "torch, default layout": (step_of_torch(specs[0], data, torch.contiguous_format), 1),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for name, (step, networks) in ways.items():
                began = time.process_time()
                step()
                if turn:  # the first makes buffers and kernels
                    taken[name].append((time.process_time() - began) / networks)
        medians = {name: 1000 * statistics.median(times) for name, times in taken.items()}
        best = min(medians.values())
        shape = f"{model} {width} channels × {depth}, {side}×{side}×{channels}, batch {batch}"
        rows.append([shape, *(f"{value:.1f}" for value in medians.values()), f"{medians['actbench'] / best:.2f}"])
        print(*rows[-1], sep="  ", file=sys.stderr)
    head = ["shape", *ways, "actbench over the best"]
    out = Path("results")
    with (out / "convolutions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows)]
    measured = f"One core, torch {torch.__version__.split('+')[0]}, {time.strftime('%Y-%m-%d')}; medians of {rounds} turns; "
    lines += ["", measured + f"`python -m tests.benchmarks.convolutions {rounds}`. Milliseconds per network and step."]
    (out / "convolutions.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
