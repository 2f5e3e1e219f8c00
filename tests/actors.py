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


def rectified_in_place(z):
    return z.relu_()


class Counting:
    """A plain callable whose state is an attribute: its slope grows with every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, z):
        self.calls += 1
        return torch.where(z > 0, z, min(0.5, 0.01 * self.calls) * z)


counting = Counting()  # one object, which networks must not share


class Running(nn.Module):
    """Keeps a buffer of what it has seen, an output of its last call, and whether it was in training then."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.start = torch.rand(())  # drawn when it is made

    def forward(self, z):
        self.mean.mul_(0.9).add_(z.detach().mean(), alpha=0.1)
        self.last = torch.relu(z - self.mean) * (1 + self.start)
        return self.last


class Ending:
    """Works when it is tried, and ends its process in training."""

    def __init__(self, how: str) -> None:
        self.how, self.calls = how, 0

    def __call__(self, z):
        self.calls += 1
        if self.calls > 1:
            end(self.how)
        return torch.relu(z)


class Ended(BaseException):
    """No Exception."""


def end(how):
    import os
    import sys

    {"exit": lambda: os._exit(7), "sys": lambda: sys.exit(7), "kill": lambda: os.kill(os.getpid(), 9)}.get(how, lambda: None)()
    raise {"interrupt": KeyboardInterrupt, "base": Ended, "generator": GeneratorExit}[how]()


class AtOnce(Ending):
    """Ends its process when it is tried."""

    def __call__(self, z):
        print("something that nobody should read")
        end(self.how)


class Uncopyable:
    """An object that cannot be copied for each network."""

    def __init__(self) -> None:
        import threading

        self.lock = threading.Lock()

    def __call__(self, z):
        return torch.relu(z)


uncopyable = Uncopyable()
