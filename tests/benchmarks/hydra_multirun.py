"""What most people write: a Hydra multirun of a script with torchvision's data set behind a DataLoader.

python -m tests.benchmarks.hydra_multirun FOLDER --multirun activation=ReLU,Tanh
FOLDER holds mnist-12k in torchvision's layout (tests.benchmarks.speed writes it).
"""

from __future__ import annotations

import sys
from itertools import pairwise

import hydra
import torch
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from tests.benchmarks.sweep import BATCH, DEPTH, EPOCHS, WIDTH

FOLDER = sys.argv.pop(1) if len(sys.argv) > 1 else "."


@hydra.main(version_base=None, config_path=None, config_name=None)
def main(config: DictConfig) -> None:
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    loader, test_loader = (
        DataLoader(datasets.MNIST(FOLDER, train=train, transform=transform), batch_size=BATCH, shuffle=train)
        for train in (True, False)
    )
    sizes = [784, *[WIDTH] * DEPTH]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), getattr(nn, config.activation)()]
    net = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(EPOCHS):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    with torch.no_grad():
        right = sum(int((net(x).argmax(1) == y).sum()) for x, y in test_loader)
    print(config.activation, right / len(test_loader.dataset))


if __name__ == "__main__":
    main()
