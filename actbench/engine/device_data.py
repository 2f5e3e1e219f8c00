"""A data set as tensors on the device that trains: kept as published, scaled batch by batch.

Shapes: S seeds, B examples of a batch, I features, N training examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from actbench.base.rng import stream
from actbench.data.datasets import Data
from actbench.plan.pack_plan import PackPlan
from actbench.plan.schedule import held_out

GROUP = 16  # inputs: processors multiply rows of whole groups faster


@dataclass(frozen=True)
class MergedInputs:
    """Inputs that never vary, such as the margins of MNIST's images, merged into one.

    What they contribute to a layer is one number a unit, and plain SGD moves their weights in one direction alone, that of
    their values. So one input of their length stands for all of them, its weight being the weights' component in that
    direction; the other components never move, and add to nothing but the norm of the weights.
    """

    varying: Tensor  # which inputs vary
    fixed: Tensor  # which F are merged
    direction: Tensor  # the fixed inputs' scaled values over their length, [F]
    length: float  # the L2 norm of their scaled values; where it is 0, no input stands for them

    def merge(self, w_ROI: Tensor) -> tuple[Tensor, Tensor]:
        """(weights of the inputs that are left [R, O, I], the L2 norm of the components that never move [R, 1, 1])."""
        kept, w_ROF = w_ROI[:, :, self.varying], w_ROI[:, :, self.fixed]
        along_RO1 = (w_ROF * self.direction).sum(-1, keepdim=True)
        rest_ROF = w_ROF - along_RO1 * self.direction
        unmoved_R11 = torch.linalg.vector_norm(rest_ROF.flatten(1), dim=1).view(-1, 1, 1)
        return (torch.cat([kept, along_RO1], 2) if self.length else kept), unmoved_R11


class DeviceData:
    """The tensors of one data set for networks of one scaling and precision. I counts the inputs that are left.

    Attributes:
        shape: the data set's, whole.
        merged: inputs that are merged into the last of x, or None.
        probe_x, probe_y: the probe set, [P, I] scaled and [P].
        validation_x, validation_y: the part of the training split that is held out, not yet scaled; perhaps none of it.
        test_x, test_y: the test split, likewise.
    """

    def __init__(self, data: Data, plan: PackPlan, device: str) -> None:
        spec = plan.spec
        self.data, self.device, self.shape = data, device, data.shape
        self.dtype = torch.float64 if spec.dtype == "float64" else torch.float32
        self._shift, self._factor = data.scaling(spec.input_scaling)
        self.merged = self._merge(data) if plan.merges_fixed_inputs else None
        count = held_out(spec, data.shape.train)
        chosen, held = data.training(spec.train_size, count), data.held_out(count)
        self.x, self.y = self._left(data.x_train[chosen]), self._labels(data.y_train[chosen])
        self.validation_x, self.validation_y = self._left(data.x_train[held]), self._labels(data.y_train[held])
        self.test_x, self.test_y = self._left(data.x_test), self._labels(data.y_test)
        probe = torch.from_numpy(data.probe(spec.probe_size, len(self.y))).to(device)
        self.probe_x, self.probe_y = self.scale(self.x[probe]), self.y[probe]

    def _merge(self, data: Data) -> MergedInputs | None:
        columns = data.fixed_columns
        values = (torch.from_numpy(data.x_train[0, columns]).to(self.device, self.dtype) - self._shift) * self._factor
        one = int(bool(values.any()))
        # a whole number of groups is left, or nothing is merged
        left = data.shape.features - len(columns) + one
        count = len(columns) - -left % GROUP
        if count < GROUP:
            return None
        values, fixed = values[:count], columns[:count]
        length = float(torch.linalg.vector_norm(values))
        varying = np.setdiff1d(np.arange(data.shape.features), fixed)
        kept, dropped = (torch.from_numpy(which).to(self.device) for which in (varying, fixed))
        return MergedInputs(kept, dropped, values / length if length else values, length)

    def _labels(self, y: np.ndarray) -> Tensor:
        return torch.from_numpy(y).to(self.device)

    def _left(self, x: np.ndarray) -> Tensor:
        if self.merged is None:
            return torch.from_numpy(x).to(self.device)
        left = torch.from_numpy(x.take(self.merged.varying.cpu().numpy(), axis=1))
        if self.merged.length:
            left = torch.cat([left, left.new_zeros(len(left), 1)], 1)
        return left.to(self.device)

    def __len__(self) -> int:
        return len(self.y)

    def scale(self, x: Tensor) -> Tensor:
        """(x − shift)·factor in the networks' precision; of merged inputs their length."""
        scaled = x.to(self.dtype, copy=True).sub_(self._shift).mul_(self._factor)
        if self.merged is not None and self.merged.length:
            scaled[..., -1].fill_(self.merged.length)
        return scaled

    def order(self, seeds: tuple[int, ...], epoch: int) -> Tensor:
        """[S, N]: the order of training examples in an epoch (from 1), a permutation that depends on the seed alone."""
        orders = [stream(seed, "batches", epoch).permutation(len(self)) for seed in seeds]
        return torch.from_numpy(np.stack(orders)).to(self.device)

    def batch(self, index_SB: Tensor) -> tuple[Tensor, Tensor]:
        """(x [S, B, I] scaled, y [S, B]) of the given training examples."""
        flat = index_SB.reshape(-1)
        x = self.scale(self.x.index_select(0, flat)).view(*index_SB.shape, -1)
        return x, self.y.index_select(0, flat).view(index_SB.shape)

    def corrupted(self, x_SBI: Tensor, seeds: tuple[int, ...], step: int, share: float | None) -> Tensor:
        """x with a share of its values set to 0, which ones depending on the seed and the step alone."""
        if not share:
            return x_SBI
        draws = [stream(seed, "corruption", step).random(x_SBI.shape[1:], dtype=np.float32) for seed in seeds]
        return x_SBI * torch.from_numpy(np.stack(draws) >= share).to(self.device)
