"""What stands between a layer's product and its outputs besides the activation: normalisation and dropout.

Shapes: R networks, U units (or pre-activations), B examples, P positions of an example (1 of a perceptron), S seeds.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from torch import Tensor

from actbench.base.rng import stream
from actbench.plan.pack import Pack

EPS = 1e-5
MOMENTUM = 0.1  # of running statistics, as torch.nn.BatchNorm's


class Norm:
    """Batch or layer normalisation of a layer's pre-activations, with its derivative. The shift is the layer's bias.

    As torch.nn.BatchNorm1d, BatchNorm2d, LayerNorm and, of a convolution, GroupNorm of one group, with one difference:
    running statistics begin as those of the first batch that it sees, not as (0, 1), and networks are shown the first of the
    probe set when they are made, so that what is measured at initialisation is normalised, too.

    Attributes:
        scale: [R, U, 1], trained.
        running: batch normalisation's mean and variance for evaluations, [R, U, 1, 1] each.
    """

    def __init__(self, kind: str, networks: int, units: int, device: str, dtype: torch.dtype) -> None:
        self.kind, self._started = kind, False
        self.dims = (2, 3) if kind == "batch" else (1, 3)
        self.scale = torch.ones(networks, units, 1, device=device, dtype=dtype)
        zeros = torch.zeros(networks, units, 1, 1, device=device, dtype=dtype)
        self.running = (zeros, torch.ones_like(zeros))

    def forward(self, a_RUBP: Tensor, *, training: bool) -> Tensor:
        """The scaled, not yet shifted values of contiguous ones."""
        self._fixed = self.kind == "batch" and self._started and not training
        if self._fixed:
            mean, variance = self.running
        else:
            variance, mean = torch.var_mean(a_RUBP, self.dims, correction=0, keepdim=True)
            if self.kind == "batch":
                count = a_RUBP.shape[2] * a_RUBP.shape[3]
                momentum = MOMENTUM if self._started else 1.0
                self.running[0].lerp_(mean, momentum)
                self.running[1].lerp_(variance * (count / max(count - 1, 1)), momentum)
                self._started = True
        self._inverse = (variance + EPS).rsqrt()
        self._normal = (a_RUBP - mean).mul_(self._inverse)
        return self._normal * self.scale.detach().unsqueeze(-1)

    def backward(self, delta_RUBP: Tensor) -> tuple[Tensor, Tensor]:
        """(∂loss/∂a, ∂loss/∂scale [R, U, 1]) from ∂loss/∂(output) of the last forward, contiguous."""
        of_scale = (delta_RUBP * self._normal).sum((2, 3)).unsqueeze(-1)
        inner = delta_RUBP * self.scale.detach().unsqueeze(-1)
        if not self._fixed:
            mean = inner.mean(self.dims, keepdim=True)
            along = (inner * self._normal).mean(self.dims, keepdim=True)
            inner = inner - mean - self._normal * along
        return inner * self._inverse, of_scale


class Dropout:
    """Masks of inverted dropout. Networks of one seed share the numbers that decide, so they drop paired units.

    The numbers are 16 bits each, from a stream of (seed, step, layer); a network keeps a unit where its number is below
    65536·(1 − dropout).
    """

    def __init__(self, pack: Pack, device: str, dtype: torch.dtype) -> None:
        self.pack, self.device, self.dtype = pack, device, dtype
        keep = torch.tensor([1 - spec.dropout for spec in pack.specs], dtype=torch.float64)
        self._limit_R = (keep * 65536).round().to(torch.int32).to(device)
        self._factor_R = (65536 / self._limit_R).to(dtype)

    def mask(self, step: int, layer: int, shape: tuple[int, ...]) -> Tensor:
        """[R, *shape]: 0, or 1/(share kept)."""
        count = prod(shape)
        raw = [stream(s, "dropout", step * 1024 + layer).bit_generator.random_raw(-(-count // 4)) for s in self.pack.seeds]
        draws = [words.view(np.uint16)[:count].astype(np.int32) for words in raw]
        number = torch.from_numpy(np.stack(draws)).to(self.device).view(len(draws), 1, *shape)
        each = (len(draws), -1, *[1] * len(shape))
        kept = (number < self._limit_R.view(each)).to(self.dtype) * self._factor_R.view(each)
        return kept.view(-1, *shape)


def penalty_gradient(h: Tensor, strength_R: Tensor) -> Tensor:
    """∂/∂h of strength·|h|, for [R, …]."""
    return torch.sign(h) * strength_R.view(-1, *[1] * (h.ndim - 1))
