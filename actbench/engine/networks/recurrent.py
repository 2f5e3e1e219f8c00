"""Stacked recurrent networks over the rows or pixels of an image, with a written backward pass through time.

Shapes: R = S·K networks (S seeds, K variants), T time steps, B examples, I inputs of a step, U units, G groups of networks
that see the same batch.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import Buffers, aligned
from actbench.engine.networks.dense_layer import DenseLayer
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Networks
from actbench.engine.networks.recurrent_layer import LSTMLayer, RecurrentLayer
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.pack_plan import PackPlan
from actbench.science.inits import Fans
from actbench.science.layer_stats import LayerStats


class StackedRNN(Networks):
    """Recurrent layers, of which the last step of the last is read by a linear output layer.

    Attributes:
        layers: the hidden layers.
        last: the output layer.
    """

    kind: type[RecurrentLayer] = RecurrentLayer

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan, data)
        maker, sizes, buffers = WeightMaker(plan.pack, data.device, data.dtype), plan.sizes, Buffers(self.scratch)
        self.buffers = buffers
        self.layers: list[RecurrentLayer] = []
        for place, layer in enumerate(sizes.layers):
            w, b = maker.draw(Fans(layer.inputs, layer.pre, units=layer.units), blocks=layer.gates)
            back, _ = maker.draw(
                Fans(layer.units, layer.pre, units=layer.units), blocks=layer.gates, hidden=False, recurrent=True
            )
            if layer.gates > 1:
                b[:, layer.pre : 2 * layer.pre] += 1  # forget gates start open (Jozefowicz et al. 2015)
            inward, recurrent, bias = self.own(w, "weight", place), self.own(back, "weight", place), self.own(b, "bias", place)
            activation = LayerActivation(plan.pack, place, layer.pre, data.device, data.dtype)
            slopes = [self.own(p, "slope", place, part) for part, p in activation.slopes]
            self.activations.append(activation)
            self.layers.append(self.kind(place, inward, recurrent, bias, buffers, activation, slopes))
        w, b = maker.draw(Fans(sizes.last_inputs, sizes.outputs), hidden=False)
        last, bias = self.own(aligned(w), "weight", self.depth), self.own(b, "bias", self.depth)
        self.last = DenseLayer(self.depth, last, bias, buffers)

    def forward(self, x_GBI: Tensor, step: int | None = None, stats: list[LayerStats] | None = None) -> Tensor:
        """See ``Networks``."""
        groups, batch, inputs = x_GBI.shape
        x_GIB = self.buffers.get("x", (groups, inputs, batch), x_GBI)
        for into, x_BI in zip(x_GIB, x_GBI, strict=True):
            into.copy_(x_BI.T)
        outputs = list(x_GIB.chunk(self.plan.sizes.layers[0].positions, 1))
        keep = step is not None or stats is not None
        for place, layer in enumerate(self.layers):
            outputs = layer.begin(outputs, None if stats is None else stats[place], keep=keep)
        with np.errstate(all="ignore"):  # numbers that diverge are noticed elsewhere
            for t in range(len(outputs)):
                for layer in self.layers:
                    layer.forward(t)
        return self.last.forward(outputs[-1], step, None)

    def backward(self, delta_RCB: Tensor, gradients: Gradients, penalty_R: Tensor | None = None) -> None:
        """See ``Networks``."""
        d: Tensor | None = self.last.backward(delta_RCB, gradients, None)
        with np.errstate(all="ignore"):
            for t in reversed(range(self.plan.sizes.layers[0].positions)):
                for layer in reversed(self.layers):
                    d = layer.backward(t, d, penalty_R)
        for layer in self.layers:
            layer.finish(gradients)


class StackedLSTM(StackedRNN):
    """Long short-term memory."""

    kind = LSTMLayer
