"""Recurrent networks against plain torch.nn and JAX; writes results/recurrent.csv and recurrent.md.

    pip install jax
    python -m tests.benchmarks.recurrent [ROUNDS]

Whole processes that train 16 networks of one layer of 64 units over the rows of mnist-12k's images, three epochs in batches of 100,
in turn; and the time per network and training step alone, over widths, numbers of networks and lengths of sequences, where actbench
trains as many packs at a time as there are cores. The plain loop trains one network after another on both cores. The floor
is what the matrix products of a step would take on all cores at the rate of a product of two square matrices of 1,024.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from actbench.base import machine
from actbench.data.datasets import Data, load_dataset
from actbench.launch.local import LocalLauncher
from actbench.plan.costs import step_flop
from actbench.plan.packing import make_packs
from actbench.study.load import normalise
from actbench.study.spec import RunSpec
from tests.benchmarks.ceiling import ceiling
from tests.benchmarks.grid import few_to_measure, stacked_seconds
from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown

MODELS, WIDTH, NETWORKS, EPOCHS, BATCH = ("rnn", "lstm"), 64, 16, 3, 100
WIDTHS, COUNTS, SEQUENCES = (16, 64, 256), (1, 16, 256), {"rows": (28, 28), "pixels": (784, 1)}
SECONDS = 0.3  # what a sample of the plain loop should take, at least


class PlainLoop:
    """One network of torch.nn in training, with both cores."""

    def __init__(self, model: str, width: int, sequence: str, data: Data) -> None:
        import torch
        from torch import nn

        self.shape = SEQUENCES[sequence]
        inputs = self.shape[1]
        self.layer = nn.LSTM(inputs, width, batch_first=True) if model == "lstm" else nn.RNN(inputs, width, batch_first=True)
        self.last = nn.Linear(width, 10)
        self.optimizer = torch.optim.SGD([*self.layer.parameters(), *self.last.parameters()], lr=0.01)
        self.x = torch.from_numpy(data.x_train).float().sub_(33).div_(79).view(-1, *self.shape)
        self.y, self.torch = torch.from_numpy(data.y_train), torch

    def seconds(self, steps: int) -> float:
        """Of one step, the mean over so many."""
        functional = self.torch.nn.functional
        began = time.perf_counter()
        for index in self.torch.randperm(len(self.x))[: steps * BATCH].split(BATCH):
            self.optimizer.zero_grad()
            outputs, _ = self.layer(self.x[index])
            functional.cross_entropy(self.last(outputs[:, -1]), self.y[index]).backward()
            self.optimizer.step()
        return (time.perf_counter() - began) / steps


def train_plainly(model: str) -> None:
    """All networks, one after another, and their test accuracy."""
    import torch

    data = load_dataset("mnist-12k", None)
    for seed in range(NETWORKS):
        torch.manual_seed(seed)
        loop = PlainLoop(model, WIDTH, "rows", data)
        for _ in range(EPOCHS):
            loop.seconds(len(loop.x) // BATCH)
        with torch.no_grad():
            outputs, _ = loop.layer(torch.from_numpy(data.x_test).float().sub_(33).div_(79).view(-1, *loop.shape))
            print(seed, (loop.last(outputs[:, -1]).argmax(1) == torch.from_numpy(data.y_test)).float().mean().item())


def train_with_jax(model: str) -> None:
    """All networks side by side: jit(vmap(scan)) over training steps, with a scan over time within."""
    import jax
    import jax.numpy as jnp

    data = load_dataset("mnist-12k", None)
    x, x_test = (jnp.asarray((part.reshape(-1, 28, 28) - np.float32(33)) / 79) for part in (data.x_train, data.x_test))
    y, y_test = jnp.asarray(data.y_train), jnp.asarray(data.y_test)
    rows = WIDTH * (4 if model == "lstm" else 1)

    def outputs(p, images):
        given = images @ p["w"] + p["b"]  # of all time steps at once

        def vanilla(h, a):
            return jnp.tanh(a + h @ p["v"]), None

        def lstm(state, a):
            h, c = state
            i, f, g, o = jnp.split(a + h @ p["v"], 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((len(images), WIDTH))
        start = (zero, zero) if model == "lstm" else zero
        end, _ = jax.lax.scan(lstm if model == "lstm" else vanilla, start, given.swapaxes(0, 1))
        return (end[0] if model == "lstm" else end) @ p["u"] + p["c"]

    def loss(p, images, labels):
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs(p, images)), labels[:, None], 1).mean()

    def one(p, index):
        def step(p, batch):
            return jax.tree.map(lambda p, g: p - 0.01 * g, p, jax.grad(loss)(p, x[batch], y[batch])), None

        p, _ = jax.lax.scan(step, p, index)
        return (outputs(p, x_test).argmax(1) == y_test).mean()

    shapes = {"w": (28, rows), "v": (WIDTH, rows), "b": (rows,), "u": (WIDTH, 10), "c": (10,)}
    draw = np.random.default_rng(0)
    start = {name: jnp.asarray(draw.uniform(-1, 1, (NETWORKS, *s)).astype(np.float32) / 8) for name, s in shapes.items()}
    index = np.stack([np.concatenate([draw.permutation(len(x)) for _ in range(EPOCHS)]) for _ in range(NETWORKS)])
    print(jax.jit(jax.vmap(one))(start, jnp.asarray(index.reshape(NETWORKS, -1, BATCH))))


def whole_processes(rounds: int, folder: str) -> dict[tuple[str, str], list[float]]:
    """Seconds of every round, per model and way."""
    taken: dict[tuple[str, str], list[float]] = {}
    own = [
        f"width={WIDTH}",
        "depth=1",
        f"epochs={EPOCHS}",
        f"batch_size={BATCH}",
        "lr=0.01",
        "activation=tanh",
        "validation_fraction=0",
    ]
    seeds = "seed=" + ",".join(map(str, range(NETWORKS)))
    run = ["actbench", "run", "single", *own, seeds, "--out", f"{folder}/r", "--fresh", "--quiet"]
    for _ in range(rounds):
        for model in MODELS:
            ways = {
                "plain torch.nn loop": ["tests.benchmarks.recurrent", "--plain", model],
                "JAX, jit(vmap(scan)), no metric": ["tests.benchmarks.recurrent", "--jax", model],
                "actbench, all metrics at initialisation and end": [*run, f"model={model}", f"eval_every={EPOCHS}"],
            }
            for way, command in ways.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
                taken.setdefault((model, way), []).append(time.perf_counter() - began)
                print(f"{taken[model, way][-1]:8.1f} s  {model}, {way}", file=sys.stderr)
    return taken


def specs_of(model: str, width: int, sequence: str, networks: int, dataset: str, steps: int) -> list[RunSpec]:
    common = dict(
        model=model, width=width, depth=1, sequence=sequence, dataset=dataset, batch_size=BATCH, epochs=1, probe_size=16
    )
    common |= dict(activation="tanh", train_size=BATCH * steps, validation_fraction=0)
    seeds = min(networks, 4)
    return [normalise({**common, "seed": s, "lr": 0.001 * (1 + k)}) for k in range(networks // seeds) for s in range(seeds)]


def grid(rounds: int) -> list[list[str | int]]:
    """Rows of the second table: time per network and step of the plain loop and of actbench."""
    cores = machine.cpu_count()
    rate = ceiling("onednn", cores)
    rows: list[list[str | int]] = []
    with tempfile.TemporaryDirectory() as name:
        dataset = few_to_measure(Path(name))
        data, parts = load_dataset(dataset, None), Path(name) / "parts"
        with LocalLauncher(cores, parts) as many, LocalLauncher(1, parts) as one:
            for model, sequence, width in itertools.product(MODELS, SEQUENCES, WIDTHS):
                plain = PlainLoop(model, width, sequence, data)
                plain.seconds(1)
                steps = max(2, min(60, round(SECONDS / plain.seconds(1))))
                packs = {}
                for networks in COUNTS:
                    specs = specs_of(model, width, sequence, networks, dataset, steps)
                    packs[networks] = sorted(make_packs(specs, {dataset: data.shape}, cores), key=len)[-cores:]
                taken: dict[int, list[float]] = {networks: [] for networks in (0, *COUNTS)}
                for _ in range(rounds):
                    taken[0].append(plain.seconds(steps))
                    for networks, some in packs.items():
                        taken[networks].append(stacked_seconds(many if len(some) > 1 else one, parts, some, data, dataset))
                base, *own = (1e3 * statistics.median(found) for found in taken.values())
                floor = step_flop(packs[COUNTS[0]][0].shared, data.shape) / rate / 1e6
                shares = [f"{o:.2f} ({base / o:.2f}×, {100 * floor / o:.0f} %)" for o in own]
                rows.append([f"{model}, {width} units, {SEQUENCES[sequence][0]} steps", f"{base:.2f}", *shares])
                print(*rows[-1], sep="  ", file=sys.stderr)
    return rows


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        taken = whole_processes(rounds, folder)
    medians = {key: statistics.median(times) for key, times in taken.items()}
    head = ["16 networks of 64 units", "seconds", "min", "max", "speed over the plain loop"]
    rows = [
        [f"{model}: {way}", *(f"{of(times):.1f}" for of in (statistics.median, min, max)),
         f"{medians[model, 'plain torch.nn loop'] / medians[model, way]:.2f}"]
        for (model, way), times in taken.items()
    ]  # fmt: skip
    line = measured_on(f"jax {version('jax')}")
    write_csv("recurrent", head, rows, line)
    more = ["a step of one network, ms", "plain loop", *(f"{n} networks" if n > 1 else "1 network" for n in COUNTS)]
    explained = "In brackets: speed over the plain loop, and the share of the ceiling of matrix products that it reaches."
    lines = [*markdown(head, rows), "", *markdown(more, grid(max(1, rounds - 1))), "", explained]
    write_markdown(
        "recurrent", [*lines, "", f"{line}; medians of {rounds} rounds; `python -m tests.benchmarks.recurrent {rounds}`."]
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        train_plainly(sys.argv[2])
    elif sys.argv[1:2] == ["--jax"]:
        train_with_jax(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
