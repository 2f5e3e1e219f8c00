"""An expert's plain torch loop: one network at a time, data in memory, both cores. No metric but the final accuracy.

python -m tests.benchmarks.plain_loop [NETWORKS]
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from tests.benchmarks.sweep import ACTIVATIONS, BATCH, DEPTH, EPOCHS, WIDTH, networks


def train(net: nn.Module, x: torch.Tensor, y: torch.Tensor, lr: float, epochs: int, batch: int) -> None:
    """Trains one network by plain SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index]).backward()
            optimizer.step()


def main(count: int) -> None:
    files = np.load("actbench/data/mnist-20k.npz")  # mnist-12k has every 5th of its test images
    archive = {name: values[::5] if "test" in name else values for name, values in files.items()}
    x, y, x_test, y_test = (torch.from_numpy(archive[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    mean, std = x.float().mean(), x.float().std()
    x, x_test = ((part.reshape(len(part), -1).float() - mean) / std for part in (x, x_test))
    y, y_test = y.long(), y_test.long()
    for activation, init, bias, lr, seed in networks()[:: max(1, 256 // count)][:count]:
        torch.manual_seed(seed)
        sizes = [784, *[WIDTH] * DEPTH, 10]
        layers: list[nn.Module] = []
        for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            linear = nn.Linear(fan_in, fan_out)
            (nn.init.kaiming_normal_ if init == "he_normal" else nn.init.xavier_normal_)(linear.weight)
            nn.init.constant_(linear.bias, bias if number < DEPTH else 0.0)
            layers += [linear, getattr(nn, ACTIVATIONS[activation])()]
        net = nn.Sequential(*layers[:-1])
        train(net, x, y, lr, EPOCHS, BATCH)
        with torch.no_grad():
            accuracy = (net(x_test).argmax(1) == y_test).float().mean().item()
        print(activation, init, bias, lr, seed, f"{accuracy:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
