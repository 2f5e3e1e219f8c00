"""An expert's plain torch loop over convolutional networks: one at a time, channels_last, data in memory, both cores.

    python -m tests.benchmarks.plain_convolutions DATA.npz WIDTH

The networks are those of ``convolutional_runs``. No metric but the final accuracy.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.benchmarks.convolutional_runs import BATCH, DEPTH, EPOCHS, RATES, SEEDS
from tests.benchmarks.plain_loop import train


def main(path: Path, width: int) -> None:
    archive = np.load(path)
    if path.name == "mnist-20k.npz":  # mnist-12k has every 5th of its test images
        archive = {name: values[::5] if "test" in name else values for name, values in archive.items()}
    x, x_test = (torch.from_numpy(archive[name]).float() for name in ("x_train", "x_test"))
    y, y_test = (torch.from_numpy(archive[name]).long() for name in ("y_train", "y_test"))
    mean, std = x.mean(), x.std()
    side, channels = (28, 1) if x[0].numel() == 784 else (32, 3)
    x, x_test = (((part - mean) / std).view(-1, side, side, channels).permute(0, 3, 1, 2) for part in (x, x_test))
    for lr in RATES:
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            layers: list[nn.Module] = []
            inputs, positions = channels, side
            for place in range(DEPTH):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
                nn.init.kaiming_normal_(layers[-2].weight)  # type: ignore[arg-type]
                if place:
                    layers.append(nn.MaxPool2d(2))
                    positions //= 2
                inputs = width
            net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * positions**2, 10)).to(memory_format=torch.channels_last)
            train(net, x, y, lr, EPOCHS, BATCH)
            with torch.no_grad():
                right = [net(a).argmax(1) == b for a, b in zip(x_test.split(500), y_test.split(500), strict=True)]
            print(lr, seed, f"{torch.cat(right).float().mean().item():.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
