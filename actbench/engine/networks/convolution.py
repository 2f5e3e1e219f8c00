"""The 3×3 convolutions of one layer of all networks, forward and backward, in as few calls of the library as can be.

A call may hold several networks only if each gets the same bits as in a call of its own (tests/benchmarks/NOTES.md).

Shapes: R networks, G groups of them that see the same batch, B examples, I input channels and O outputs of one network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.engine.networks.images import dense
from actbench.plan.architecture import KERNEL

LEAST_CHANNELS = 4  # of one network, and
LEAST_SIDE = 3  # of an image: smaller convolutions round by how many are grouped
PADDING = KERNEL // 2


class Convolution:
    """R networks' convolutions.

    Args:
        kernels: [R·O, I, 3, 3], which training changes in place.
        biases: [R·O], or None.
        networks: R.
        first: whether it reads the data, and needs no gradient of them.
        in_company: whether networks of this kind train several at a time.
        on_gpu: where a call may hold any networks.
    """

    def __init__(
        self, kernels: Tensor, biases: Tensor | None, networks: int, *, first: bool, in_company: bool, on_gpu: bool
    ) -> None:
        self.kernels, self.biases, self.networks, self.first, self.on_gpu = kernels, biases, networks, first, on_gpu
        # the library's ordinary convolutions round differently from its grouped ones
        self.twice = in_company and networks == 1 and not first and not on_gpu
        self._calls: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """[B, R·O, H, W] of the data of each group, [B, I, H, W], or of what all networks gave, [B, R·I, H, W]."""
        stacks = self._stacks(inputs[0])
        self._groups = 1 if self.first or not stacks else self.networks
        if not stacks:
            each = self.networks // len(inputs)
            inputs = [part for one in inputs for part in ([one] * each if self.first else one.chunk(each, 1))]
        kernels, biases = self.kernels, self.biases
        self._doubled = stacks and self.twice
        if self._doubled:
            inputs, self._groups = [torch.cat([inputs[0]] * 2, 1)], 2
            kernels, biases = torch.cat([kernels] * 2), None if biases is None else torch.cat([biases] * 2)
        self._calls = [(dense(x), w) for x, w in zip(inputs, kernels.chunk(len(inputs)), strict=True)]
        each_biases = [None] * len(inputs) if biases is None else biases.chunk(len(inputs))
        found = [
            F.conv2d(x, w, b, padding=PADDING, groups=self._groups) for (x, w), b in zip(self._calls, each_biases, strict=True)
        ]
        if self._doubled:
            return dense(found[0].chunk(2, 1)[0])
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def backward(self, d: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """∂loss/∂ what it read (nothing of use for the first layer), kernels and biases, from ∂loss/∂ its outputs."""
        parts = [torch.cat([d, d], 1)] if self._doubled else d.chunk(len(self._calls), 1)
        found = [self._gradients(dense(part), x, w) for part, (x, w) in zip(parts, self._calls, strict=True)]
        self._calls = []
        of_inputs, of_kernels, of_biases = ([part for part in parts if part is not None] for parts in zip(*found, strict=True))
        if self._doubled:
            of_inputs = [dense(part.chunk(2, 1)[0]) for part in of_inputs]
            of_kernels, of_biases = ([part.chunk(2)[0] for part in parts] for parts in (of_kernels, of_biases))
        dx = d if self.first else _joined(of_inputs, 1)
        return dx, _joined(of_kernels, 0), _joined(of_biases, 0) if of_biases else None

    def _gradients(self, d: Tensor, x: Tensor, w: Tensor) -> tuple[Tensor | None, ...]:
        around, wanted = [PADDING] * 2, [not self.first, True, self.biases is not None]
        return torch.ops.aten.convolution_backward(d, x, w, [len(w)], [1, 1], around, [1, 1], False, [0, 0], self._groups, wanted)

    def _stacks(self, x: Tensor) -> bool:
        """Whether several networks' convolutions in one call give each the same bits as its own would."""
        if self.on_gpu:
            return True
        enough = len(self.kernels) >= LEAST_CHANNELS * self.networks and min(x.shape[2:]) >= LEAST_SIDE
        return enough and len(x) > 1 and x.dtype == torch.float32


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
