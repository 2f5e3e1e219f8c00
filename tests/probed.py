"""Networks of torch's and of users' own, for tests of `actbench.Probe`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def data(*shape: int, classes: int = 3, seed: int = 0, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype), torch.randint(0, classes, (shape[0],), generator=generator)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


class Convolutional(nn.Module):
    """Batch norm, dropout, functional and in-place activations, a count that its forward pass keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.norm, self.last, self.calls = nn.BatchNorm2d(6), nn.Linear(4 * 9, 3), 0
        self.seen: list[torch.Size] = []

    def forward(self, x):
        self.calls += 1
        self.seen.append(x.shape)
        x = F.relu(self.norm(self.first(x)), inplace=True)
        x = F.dropout2d(x, 0.2, self.training)
        x = F.max_pool2d(self.second(x), 2).relu_()
        return self.last(x.flatten(1))


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM, **more) -> None:
        super().__init__()
        self.cells = kind(4, 5, num_layers=2, batch_first=True, dropout=0.1, **more)
        self.last = nn.Linear(5 * (1 + self.cells.bidirectional), 3)

    def forward(self, x):
        return self.last(self.cells(x)[0][:, -1])


class Tokens(nn.Module):
    """A transformer's block over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation="gelu", batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.block(x).mean(1))


def vit_block() -> nn.Module:
    from torchvision.models.vision_transformer import EncoderBlock

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = EncoderBlock(2, 8, 16, dropout=0.1, attention_dropout=0.1)
            self.last = nn.Linear(8, 3)

        def forward(self, x):
            return self.last(self.block(x).mean(1))

    return Block()


def small_resnet() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3)


# name → (how it is made, the shape of its input)
NETWORKS = {
    "mlp": (mlp, (6,)), "cnn": (Convolutional, (2, 6, 6)), "resnet": (small_resnet, (3, 32, 32)), "vit block": (vit_block, (5, 8)),
    "transformer": (Tokens, (5, 8)), "lstm": (Recurrent, (6, 4)),
}  # fmt: skip
