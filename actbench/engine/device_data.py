"""A data set as tensors on the device that trains: kept as published, scaled batch by batch.

Shapes: S seeds, B examples of a batch, I features, N training examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actbench.data.datasets import Data
from actbench.base.rng import stream
from actbench.study.spec import ROUNDED, RunSpec


@dataclass(frozen=True)
class FixedInputs:
    """Inputs that are the same in every example, such as the margins of MNIST's images.

    Attributes:
        varying, fixed: which inputs vary, and which F do not.
        values: what the fixed inputs are, scaled, [F].
        square: the sum of their squares.
    """

    varying: Tensor
    fixed: Tensor
    values: Tensor
    square: Tensor


class DeviceData:
    """The tensors of one data set for networks of one scaling and precision. I counts the inputs that vary.

    Attributes:
        features: all inputs, fixed ones too.
        shape: the data set's, whole.
        fixed: inputs that are left out of x, or None.
        probe_x, probe_y: the probe set, [P, I] scaled and [P].
        test_x, test_y: the test split, not yet scaled.
    """

    def __init__(self, data: Data, spec: RunSpec, device: Any) -> None:
        self.data, self.device = data, device
        self.dtype = torch.float64 if spec.dtype == "float64" else torch.float32
        self._shift, self._factor = data.scaling(spec.input_scaling)
        chosen = data.subset(spec.train_size)
        self.features = data.x_train.shape[1]
        # other models read the positions of inputs, or give them back; rounded products round each input's own
        left_out = data.fixed_columns if spec.model == "mlp" and spec.dtype not in ROUNDED else data.fixed_columns[:0]
        varying = np.setdiff1d(np.arange(self.features), left_out)
        self.fixed = None
        if len(left_out):
            values = self.scale(torch.from_numpy(data.x_train[0, left_out]).to(device))
            kept, dropped = (torch.from_numpy(columns).to(device) for columns in (varying, left_out))
            self.fixed = FixedInputs(kept, dropped, values, values.square().sum())
        x_train, x_test = (x.take(varying, axis=1) if self.fixed else x for x in (data.x_train, data.x_test))
        self.x = torch.from_numpy(x_train if chosen is None else x_train[chosen]).to(device)
        self.y = torch.from_numpy(data.y_train if chosen is None else data.y_train[chosen]).to(device)
        probe = torch.from_numpy(data.probe(spec.probe_size, len(self.y))).to(device)
        self.probe_x, self.probe_y = self.scale(self.x[probe]), self.y[probe]
        self.test_x = torch.from_numpy(x_test).to(device)
        self.test_y = torch.from_numpy(data.y_test).to(device)
        self.shape = data.shape

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

    def corrupted(self, x_SBI: Tensor, seeds: tuple[int, ...], step: int, share: float) -> Tensor:
        """x with a share of its values set to 0, which ones depending on the seed and the step alone."""
        draws = [stream(seed, "corruption", step).random(x_SBI.shape[1:], dtype=np.float32) for seed in seeds]
        return x_SBI * torch.from_numpy(np.stack(draws) >= share).to(self.device)
