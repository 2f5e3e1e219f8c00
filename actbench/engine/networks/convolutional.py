"""Stacked convolutional networks, plain or with identity skips, with a written backward pass.

A pack of one network is an ordinary convolution, which on a CPU is the fast way (tests/benchmarks/NOTES.md); several are
grouped convolutions, the channels of all networks side by side.

Shapes: R = S·K networks (S seeds, K variants), B examples, U channels of one network, H × W positions, G groups of
networks that see the same batch.
"""

from __future__ import annotations

from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import Buffers
from actbench.engine.networks.conv_layer import ConvLayer
from actbench.engine.networks.convolution import Convolution
from actbench.engine.networks.dense_layer import DenseLayer
from actbench.engine.networks.images import dense
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Networks
from actbench.engine.networks.regularise import Norm
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.architecture import KERNEL, Layer
from actbench.plan.pack_plan import PackPlan
from actbench.science.inits import Fans
from actbench.science.layer_stats import LayerStats


class StackedConvolutions(Networks):
    """R networks of 3×3 convolutions.

    Attributes:
        layers: the hidden layers.
        last: the output layer.
    """

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan, data)
        spec, sizes = plan.spec, plan.sizes
        assert data.shape.image is not None
        self.image = data.shape.image
        maker = WeightMaker(plan.pack, data.device, data.dtype)
        self.layers = [self._make_layer(place, layer, maker, data) for place, layer in enumerate(sizes.layers)]
        w, b = maker.draw(Fans(sizes.last_inputs, sizes.outputs), hidden=False)
        last, bias = self.own(w, "weight", self.depth), self.own(b, "bias", self.depth)
        self.last = DenseLayer(self.depth, last, bias, Buffers(self.scratch))
        if spec.norm == "batch":
            self.forward(data.probe_x[: spec.batch_size].unsqueeze(0))

    def _make_layer(self, place: int, layer: Layer, maker: WeightMaker, data: DeviceData) -> ConvLayer:
        kind, on_gpu, several = self.plan.spec.norm, data.device.startswith("cuda"), self.plan.full > 1
        w, b = maker.draw(Fans(layer.inputs, layer.pre, layer.kernel))
        weight, bias = self.own(w, "weight", place), self.own(b, "bias", place)
        norm = None if kind == "none" else Norm(kind, self.networks, layer.pre, data.device, data.dtype)
        kernels, biases = w.view(-1, layer.inputs, KERNEL, KERNEL), None if norm else b.view(-1)
        activation = LayerActivation(self.plan.pack, place, layer.pre, data.device, data.dtype)
        self.activations.append(activation)
        return ConvLayer(
            place, layer, self.networks, not (several or on_gpu),
            Convolution(kernels, biases, self.networks, first=place == 0, in_company=several, on_gpu=on_gpu),
            weight, bias, activation,
            slopes=[self.own(p, "slope", place, part) for part, p in activation.slopes],
            norm=norm, scale=self.own(norm.scale, "scale", place) if norm else None, dropout=self.dropout,
        )  # fmt: skip

    def forward(self, x_GBI: Tensor, step: int | None = None, stats: list[LayerStats] | None = None) -> Tensor:
        """See ``Networks``."""
        batch, penalised = x_GBI.shape[1], bool(self.plan.spec.activation_l1) and step is not None
        inputs = [x_BI.view(-1, *self.image).permute(0, 3, 1, 2) for x_BI in x_GBI.unbind(0)]
        block = None
        for layer in self.layers:
            h = layer.forward(inputs, block if layer.sizes.block_end else None, step, stats, penalised=penalised)
            inputs, block = [h], h if layer.begins_block else block
        self._shape = h.shape
        return self.last.forward(h.reshape(batch, self.networks, -1).permute(1, 2, 0), step, stats)

    def backward(self, delta_RCB: Tensor, gradients: Gradients, penalty_R: Tensor | None = None) -> None:
        """See ``Networks``."""
        d_RIB = self.last.backward(delta_RCB, gradients, None)
        d, of_block = dense(d_RIB.permute(2, 0, 1).reshape(self._shape)), None
        for layer in reversed(self.layers):
            if of_block is not None and layer.begins_block:
                d = d.add_(of_block)
            d, of_z = layer.backward(d, gradients, penalty_R)
            of_block = of_z if layer.sizes.block_end else of_block
