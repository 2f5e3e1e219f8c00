"""A data set as tensors on the device that trains: kept as published, scaled batch by batch.

Shapes: S seeds, B examples of a batch, I features, N training examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actbench.datasets import Data
from actbench.rng import stream
from actbench.spec import RunSpec


@dataclass(frozen=True)
class FixedInputs:
    """Inputs that are the same in every example, such as the margins of MNIST's images.

    Attributes:
        varying, fixed: which inputs vary, and which F do not.
        values: what the fixed inputs are, scaled, [F].
    """

    varying: Tensor
    fixed: Tensor
    values: Tensor


class DeviceData:
    """The tensors of one data set for networks of one scaling and precision. I counts the inputs that vary.

    Attributes:
        features: all inputs, fixed ones too.
        fixed: inputs that are left out of x, or None.
        probe_x, probe_y: the probe set, [P, I] scaled and [P].
        test_x, test_y: the test split.
    """

    def __init__(self, data: Data, spec: RunSpec, device: Any) -> None:
        self.data, self.device = data, device
        self.dtype: torch.dtype = getattr(torch, spec.dtype)
        self._shift, self._factor = data.scaling(spec.input_scaling)
        self.features = data.x_train.shape[1]
        self.fixed, varying = None, np.setdiff1d(np.arange(self.features), data.fixed_columns)
        if len(data.fixed_columns):
            values = self.scale(torch.from_numpy(data.x_train[0, data.fixed_columns]).to(device))
            kept, left_out = (torch.from_numpy(columns).to(device) for columns in (varying, data.fixed_columns))
            self.fixed = FixedInputs(kept, left_out, values)
        x_train, x_test = (np.ascontiguousarray(x[:, varying]) if self.fixed else x for x in (data.x_train, data.x_test))
        self.x = torch.from_numpy(x_train).to(device)
        self.y = torch.from_numpy(data.y_train).to(device)
        probe = torch.from_numpy(data.probe(spec.probe_size)).to(device)
        self.probe_x, self.probe_y = self.scale(self.x[probe]), self.y[probe]
        self.test_x = self.scale(torch.from_numpy(x_test).to(device))
        self.test_y = torch.from_numpy(data.y_test).to(device)

    def __len__(self) -> int:
        return len(self.y)

    def scale(self, x: Tensor) -> Tensor:
        """(x − shift)·factor in the networks' precision."""
        return x.to(self.dtype, copy=True).sub_(self._shift).mul_(self._factor)

    def order(self, seeds: tuple[int, ...], epoch: int) -> Tensor:
        """[S, N]: the order of training examples in an epoch (from 1), a permutation that depends on the seed alone."""
        orders = [stream(seed, "batches", epoch).permutation(len(self)) for seed in seeds]
        return torch.from_numpy(np.stack(orders)).to(self.device)

    def batch(self, index_SB: Tensor) -> tuple[Tensor, Tensor]:
        """(x [S, B, I] scaled, y [S, B]) of the given training examples."""
        flat = index_SB.reshape(-1)
        x = self.scale(self.x.index_select(0, flat)).view(*index_SB.shape, -1)
        return x, self.y.index_select(0, flat).view(index_SB.shape)
