"""Stacked perceptrons with a written backward pass: faster than autograd, and δ lies open.

Shapes: R = S·K networks (S seeds, K variants each), O pre-activations of a layer, I its inputs, C outputs, B examples, G
groups of networks that see the same batch. Activations are [R, units, B] and weights [R, O, I], so that the first layer of
all networks of a group is one matrix product, and nothing is ever transposed in memory.
"""

from __future__ import annotations

from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import Buffers, aligned
from actbench.engine.networks.dense_layer import DenseLayer, OwnInputLayer, SharedInputLayer
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Networks, Observer
from actbench.engine.networks.regularise import Dropout, Norm
from actbench.engine.networks.rounding import rounding
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.pack_plan import PackPlan
from actbench.science.inits import Fans


class StackedPerceptrons(Networks):
    """R perceptrons of one shape: classifiers, or autoencoders.

    Attributes:
        layers: the hidden layers, then the output layer.
    """

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan)
        pack, spec, sizes, device, dtype = plan.pack, plan.spec, plan.sizes, data.device, data.dtype
        maker, buffers, rounded = WeightMaker(pack, device, dtype), Buffers(self.scratch), rounding(spec.dtype)
        dropout = Dropout(pack, device, dtype) if spec.dropout else None
        self.layers: list[DenseLayer] = []
        for place, layer in enumerate(sizes.layers):
            w, b = maker.hidden(Fans(layer.inputs, layer.pre))
            if place == 0 and data.merged is not None:
                w, self.unmoved_R11 = data.merged.merge(w)
            kind = DenseLayer if place else SharedInputLayer if plan.shares_products else OwnInputLayer
            weight = self.own(w if kind is SharedInputLayer else aligned(w), "weight", place)
            one = kind(place, weight, self.own(b, "bias", place), buffers, rounded, dropout=dropout)
            if spec.norm != "none":
                one.norm = Norm(spec.norm, len(pack), layer.pre, device, dtype)
                one.scale = self.own(one.norm.scale, "scale", place)
            one.activation = LayerActivation(pack, place, layer.pre, device, dtype)
            one.slopes = [self.own(p, "slope", place, part) for part, p in one.activation.slopes]
            self.layers.append(one)
        last = self.own(aligned(maker.draw(Fans(sizes.last_inputs, sizes.outputs))), "weight", self.depth)
        bias = self.own(last.tensor.new_zeros(len(pack), sizes.outputs, 1), "bias", self.depth)
        self.layers.append(DenseLayer(self.depth, last, bias, buffers, rounded))
        if spec.norm == "batch":  # running statistics begin as those of the probe set's first batch
            self._forward(data.probe_x[: spec.batch_size].unsqueeze(0), "start", None, None)

    def forward(
        self, x_GBI: Tensor, *, step: int | None = None, observer: Observer | None = None, backward: bool = True
    ) -> Tensor:
        """See ``Networks``."""
        return self._forward(x_GBI, "eval" if step is None else "train", step, observer)

    def _forward(self, x: Tensor, mode: str, step: int | None, observer: Observer | None) -> Tensor:
        for layer in self.layers:
            x = layer.forward(x, mode, step, observer)
        return x

    def backward(
        self, delta_RCB: Tensor, gradients: Gradients, *, penalty_R: Tensor | None = None, observer: Observer | None = None
    ) -> None:
        """See ``Networks``."""
        d = delta_RCB
        for layer in reversed(self.layers):
            d = layer.backward(d, gradients, penalty_R, observer)
