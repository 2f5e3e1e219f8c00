"""What `actbench.Probe` costs, beside ormas-monitor and a plain hook collector, and which units each of them calls dead.

    python -m tests.benchmarks.probe            # writes results/probe.md and probe.csv; some minutes on 2 cores

A measurement every 100 steps, on 2,000 examples. What is timed in turn, again and again: a training step, a measurement of the
probe (in memory, and written to a folder), a step with ormas-monitor (`pip install ormas-monitor`) that checks, a step with hooks
on every ReLU that count zeros of the batch. A share is the extra time of one measurement over that of 100 plain steps.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import actbench
from tests.benchmarks.tables import markdown, measured_on, write_csv, write_markdown

EVERY, EXAMPLES = 100, 2000
ROUNDS = {"mlp, batch 128": 10, "mlp, batch 1024": 8, "resnet-18, batch 128": 6, "resnet-18, batch 1024": 4}
COLUMNS = ("case", "what", "milliseconds", "fastest", "slowest", "share %", "rounds")


def mlp() -> tuple[nn.Module, tuple[int, ...]]:
    widths = (784, 512, 512, 512)
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 10)), (784,)


def resnet18() -> tuple[nn.Module, tuple[int, ...]]:
    from torchvision.models import resnet18 as make

    return make(num_classes=10), (3, 32, 32)


class HookCollector:
    """What forums answer: hooks on modules of ReLU that note which units are 0 on the whole batch."""

    def __init__(self, model: nn.Module) -> None:
        self.dead: dict[str, torch.Tensor] = {}
        self.handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in model.named_modules()
            if isinstance(module, nn.ReLU)
        ]

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, out: torch.Tensor) -> None:
            self.dead[name] = (out.detach().transpose(0, 1).flatten(1) == 0).all(1)

        return hook

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


def ormas(model: nn.Module, optimizer: torch.optim.Optimizer, folder: str):
    """A monitor that checks at every step; None where the package is not installed."""
    try:
        from ormas_monitor import Monitor
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return Monitor(model, optimizer, check_every=1, out=folder, overwrite=True)


def seconds(do: Callable[[], object]) -> float:
    """Of the processor, on one core: what else runs on the machine counts little."""
    started = time.process_time()
    do()
    return time.process_time() - started


def timed(case: str, rounds: int) -> list[dict[str, object]]:
    """Rows of one case: everything in turn, ``rounds`` times."""
    torch.manual_seed(0)
    model, shape = (mlp if case.startswith("mlp") else resnet18)()
    batch = int(case.rpartition(" ")[2])
    x, y = torch.randn(batch, *shape), torch.randint(0, 10, (batch,))
    probe_x, probe_y = torch.randn(EXAMPLES, *shape), torch.randint(0, 10, (EXAMPLES,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step(monitor=None) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if monitor is not None:
            monitor.step(loss)
        optimizer.step()

    def hooked() -> None:
        collector = HookCollector(model)
        step()
        collector.close()

    with tempfile.TemporaryDirectory() as folder:
        probe = actbench.Probe(model, probe_x, probe_y, loss=F.cross_entropy, every=None)
        writing = actbench.Probe(model, probe_x, probe_y, loss=F.cross_entropy, every=None, out=f"{folder}/probe")
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            plain = statistics.median(seconds(step) for _ in range(3 if batch < 1000 else 1))
            found.setdefault("training step", []).append(plain)
            found.setdefault("actbench, in memory", []).append(seconds(probe.measure))
            found.setdefault("actbench, into a folder", []).append(seconds(writing.measure))
            found.setdefault("hook collector, on the batch", []).append(seconds(hooked) - plain)
            if (monitor := ormas(model, optimizer, f"{folder}/ormas")) is not None:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    step(monitor)  # the first check looks at the graph
                    found.setdefault("ormas-monitor, on the batch", []).append(seconds(lambda m=monitor: step(m)) - plain)
                    monitor.close(report=False)
    base = statistics.median(found["training step"])
    return [
        {
            "case": case, "what": what, "milliseconds": f"{1e3 * statistics.median(values):.1f}", "fastest": f"{1e3 * min(values):.1f}",
            "slowest": f"{1e3 * max(values):.1f}",
            "share %": "" if what == "training step" else f"{100 * statistics.median(values) / (EVERY * base):.2f}", "rounds": len(values),
        }
        for what, values in found.items()
    ]  # fmt: skip


class Known(nn.Module):
    """Layers with known dead units: behind a batch norm, a function, a module in place, a method in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.act1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()
        self.conv2, self.fc1, self.act3 = nn.Conv2d(16, 16, 3, stride=2), nn.Linear(16 * 9 + 1, 64), nn.ReLU(inplace=True)
        self.fc2, self.last = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act1(self.norm(self.conv1(x)))
        h = F.relu(self.conv2(h))
        h = self.act3(self.fc1(torch.cat([h.flatten(1), x[:, 0, 0, :1]], 1)))
        return self.last(self.fc2(h).relu_())


LAYERS = (
    ("nn.ReLU behind batch norm, 4 channels switched off", "act1", "conv1", 4),
    ("F.relu, 5 channels switched off", "relu()", "conv2", 5),
    ("nn.ReLU in place, 6 units switched off, 8 that fire on 1 example in 250", "act3", "fc1", 6),
    ("z.relu_(), 7 units switched off", "relu()#2", "fc2", 7),
)


def known_network() -> tuple[Known, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = Known()
    with torch.no_grad():
        model.norm.weight[:4], model.norm.bias[:4] = 0, -1
        for layer, dead in ((model.conv2, 5), (model.fc1, 6), (model.fc2, 7)):
            layer.bias[:dead], layer.bias[dead:] = -1000, 0.5
        model.fc1.weight[6:14], model.fc1.bias[6:14] = 0, -5
        model.fc1.weight[6:14, -1] = 10
    x = torch.randn(EXAMPLES, 1, 8, 8)
    x[:, 0, 0, 0] = 0
    x[200::250, 0, 0, 0] = 1  # 8 examples, the first of them in the second batch
    return model, x, torch.randint(0, 10, (EXAMPLES,))


def verdicts() -> list[tuple[str, ...]]:
    """Per layer: what is dead, and how many units each tool calls dead (of ormas-monitor: stuck, of any kind, at its 4th check)."""
    model, x, y = known_network()
    measured = actbench.Probe(model, x, y, loss=F.cross_entropy).measurements[0]
    units = {"act1": 16, "relu()": 16, "act3": 64, "relu()#2": 32}
    ours = {
        name: round(units[name] * share) for name, share in zip(measured.names, measured.layers["dead_fraction"], strict=True)
    }
    collector = HookCollector(model)
    model(x[:128])
    hooks = {name: int(dead.sum()) for name, dead in collector.dead.items()}
    collector.close()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    theirs: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if (monitor := ormas(model, optimizer, folder)) is not None:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                for _ in range(4):  # its patience
                    optimizer.zero_grad()
                    loss = F.cross_entropy(model(x[:128]), y[:128])
                    loss.backward()
                    monitor.step(loss)
                    optimizer.step()
                monitor.close(report=False)
            theirs = json.loads(Path(folder, "metrics.jsonl").read_text().splitlines()[-1])["stuck"]
    return [
        (
            text,
            str(dead),
            str(ours[act]),
            str(sum(theirs[weights])) if theirs else "not installed",
            str(hooks.get(act, "not seen")),
        )
        for text, act, weights, dead in LAYERS
    ]


def version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"


def main() -> None:
    torch.set_num_threads(1)
    rows = [list(row.values()) for case, rounds in ROUNDS.items() for row in timed(case, rounds)]
    machine = measured_on(version("torchvision"), version("ormas-monitor"))
    write_csv("probe", COLUMNS, rows, machine)
    write_markdown(
        "probe",
        [
            *markdown(COLUMNS, rows),
            "",
            f"Milliseconds are medians of processor time on one core. The share is the extra time of one measurement over that of {EVERY} training steps. The probe runs",
            f"{EXAMPLES:,} examples forward and backward; {EVERY} steps of batch 128 run 12,800, those of batch 1,024 102,400. The others read",
            "the training batch as it passes, and no δ, norm of the probe set or figure of evaluation mode.",
            "",
            *markdown(("layer", "dead", "actbench", "ormas-monitor", "hook collector"), verdicts()),
            "",
            f"{machine}; `python -m tests.benchmarks.probe`.",
        ],
    )


if __name__ == "__main__":
    main()
