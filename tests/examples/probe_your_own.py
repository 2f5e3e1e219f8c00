"""Is my network dying? Two runs of one network at two learning rates, watched by `actbench.Probe`.

python tests/examples/probe_your_own.py results/mine
actbench report results/mine --by lr --metric dead_fraction,died_fraction,train_accuracy
actbench report results/mine --figure lines --x step --y dead_fraction --hue layer --facet lr --out results/probe.svg
actbench check results/mine 'max(dead_fraction, lr=0.05) <= 0.2'
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import nn

import actbench


class Net(nn.Module):
    """A convolutional network as people write them: a module here, a function there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.act = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.conv2, self.hidden, self.last = nn.Conv2d(8, 16, 3, stride=2), nn.Linear(16 * 9, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.norm(self.conv1(x)))
        h = F.relu(self.conv2(h))
        return self.last(torch.relu(self.hidden(h.flatten(1))))


def main(out: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(600, 1, 8, 8)
    y = x.flatten(2).mean(1).unflatten(1, (4, 16)).abs().mean(2).argmax(1)  # which quarter of the image is loudest
    for lr in (0.05, 3.0):
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        with actbench.Probe(model, x[:200], y[:200], loss=F.cross_entropy, every=10, out=out, settings={"lr": lr}) as probe:
            for _ in range(100):
                batch = torch.randint(0, len(x), (64,))
                optimizer.zero_grad()
                F.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
                probe.step()
        print(f"lr={lr}: {probe.table()}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results/mine")
