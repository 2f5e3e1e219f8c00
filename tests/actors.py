"""Activations as users write them, for tests of dotted names."""

from __future__ import annotations

import torch
from torch import nn


def shifted_relu(z):
    return torch.relu(z + 0.5)


def smooth(z):
    """Not exact arithmetic: processors compute the last few values of a tensor by other code."""
    return torch.nn.functional.softplus(z) - torch.exp(-z.square())


class Sloped(nn.Module):
    """leaky_relu as a user might write it."""

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, z):
        return torch.where(z > 0, z, self.slope * z)


class Trained(nn.Module):
    """prelu as a user might write it: one slope per unit."""

    def __init__(self, units: int, start: float = 0.25) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((units,), start))

    def forward(self, z):
        return torch.where(z > 0, z, self.slope * z)


class Branching(nn.Module):
    """Looks at values, which torch.func cannot batch."""

    def forward(self, z):
        return torch.relu(z) if float(z.detach().sum()) > -1e9 else z


class MeanFree(nn.Module):
    """Not elementwise: takes the mean over a network's batch, which must not mix networks."""

    def forward(self, z):
        return torch.relu(z) - 0.01 * z.mean()


class Bounded(nn.Tanh):
    asymptotes = (-1.0, 1.0)


class Picky(nn.Module):
    """Fails once training has moved the pre-activations far enough."""

    def forward(self, z):
        if float(z.detach().abs().max()) > 50:
            raise ValueError("too large for me")
        return torch.relu(z)


def wrong_shape(z):
    return z.sum(-1)


def flat(z):
    return torch.zeros_like(z)


class Exploding(nn.Module):
    """Never works."""

    def forward(self, z):
        raise ValueError("never")
