"""Stacked perceptrons with a written backward pass: faster than autograd, and δ lies open.

Activations are [R networks, units, B examples] and weights [R, outputs, inputs], so that the first layer of all networks that
see the same batch is one matrix product, and nothing is ever transposed in memory.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import Buffers, aligned
from actbench.engine.networks.dense_layer import DenseLayer
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Networks
from actbench.engine.networks.regularise import Norm
from actbench.engine.networks.rounding import rounded
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.pack_plan import PackPlan
from actbench.science.inits import Fans
from actbench.science.layer_stats import LayerStats
from actbench.study.spec import ROUNDED


class StackedPerceptrons(Networks):
    """R perceptrons of one shape: classifiers, or autoencoders.

    Attributes:
        layers: the hidden layers, then the output layer.
    """

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan, data)
        pack, spec, sizes, device, dtype = plan.pack, plan.spec, plan.sizes, data.device, data.dtype
        maker, buffers = WeightMaker(pack, device, dtype), Buffers(self.scratch)
        rounds = partial(rounded, bits=ROUNDED[spec.dtype]) if spec.dtype in ROUNDED else None
        self.layers: list[DenseLayer] = []
        for place, layer in enumerate(sizes.layers):
            w, b = maker.draw(Fans(layer.inputs, layer.pre))
            if place == 0 and data.merged is not None:
                w, self.unmoved_R11 = data.merged.merge(w)
            joint = place == 0 and plan.shares_products
            weight = self.own(w if joint else aligned(w), "weight", place)
            one = DenseLayer(place, weight, self.own(b, "bias", place), buffers, rounds, joint, dropout=self.dropout)
            if spec.norm != "none":
                one.norm = Norm(spec.norm, len(pack), layer.pre, device, dtype)
                one.scale = self.own(one.norm.scale, "scale", place)
            one.activation = LayerActivation(pack, place, layer.pre, device, dtype)
            self.activations.append(one.activation)
            one.slopes = [self.own(p, "slope", place, part) for part, p in one.activation.slopes]
            self.layers.append(one)
        w, b = maker.draw(Fans(sizes.last_inputs, sizes.outputs), hidden=False)
        last, bias = self.own(aligned(w), "weight", self.depth), self.own(b, "bias", self.depth)
        self.layers.append(DenseLayer(self.depth, last, bias, buffers, rounds))
        if spec.norm == "batch":
            self.forward(data.probe_x[: spec.batch_size].unsqueeze(0))

    def forward(self, x_GBI: Tensor, step: int | None = None, stats: list[LayerStats] | None = None) -> Tensor:
        """See ``Networks``."""
        x = x_GBI.mT
        for layer in self.layers:
            x = layer.forward(x, step, stats)
        return x

    def backward(self, delta_RCB: Tensor, gradients: Gradients, penalty_R: Tensor | None = None) -> None:
        """See ``Networks``."""
        d = delta_RCB
        for layer in reversed(self.layers):
            d = layer.backward(d, gradients, penalty_R)
