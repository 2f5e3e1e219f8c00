"""Stacked recurrent networks over the rows or pixels of an image: vanilla, and long short-term memory (LSTM).

Shapes: R = S·K networks (S seeds, K variants), T time steps, B examples, I inputs of a step, U units, O pre-activations
(of all gates), G groups of networks that see the same batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import product
from actbench.engine.networks.by_autograd import AutogradNetworks
from actbench.engine.networks.layer_activation import differentiable
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.pack_plan import PackPlan
from actbench.science.inits import Fans


class _Recurrent(AutogradNetworks):
    """What both have in common: input weights [R, O, I], recurrent weights [R, O, U] and biases [R, O, 1] per layer."""

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan, data)
        maker, sizes = WeightMaker(plan.pack, data.device, data.dtype), plan.sizes
        self.inward: list[Tensor] = []
        self.recurrent: list[Tensor] = []
        self.biases: list[Tensor] = []
        for place, layer in enumerate(sizes.layers):
            w, b = maker.draw(Fans(layer.inputs, layer.pre, units=layer.units), blocks=layer.gates)
            back, _ = maker.draw(
                Fans(layer.units, layer.pre, units=layer.units), blocks=layer.gates, hidden=False, recurrent=True
            )
            if layer.gates > 1:
                b[:, layer.pre : 2 * layer.pre] += 1  # forget gates start open (Jozefowicz et al. 2015)
            self.inward.append(self.own(w, "weight", place).tensor)
            self.recurrent.append(self.own(back, "weight", place).tensor)
            self.biases.append(self.own(b, "bias", place).tensor)
        self._make_output(*maker.draw(Fans(sizes.last_inputs, sizes.outputs), hidden=False), data)

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        groups, batch, _ = x_GBI.shape
        steps, first = self.plan.sizes.layers[0].positions, self.inward[0]
        x_GTBI = x_GBI.view(groups, batch, steps, -1).transpose(1, 2)
        x_GIN = x_GTBI.reshape(groups, steps * batch, -1).mT
        if self.plan.shares_products:
            a = torch.bmm(first.view(groups, -1, first.shape[2]), x_GIN)
        else:
            a = product(first, x_GIN.repeat_interleave(self.networks // groups, 0))
        for layer in range(self.depth):
            if layer:
                a = product(self.inward[layer], torch.cat(self.h[-1], 2))
            a_ROTB = a.reshape(self.networks, -1, steps, batch) + self.biases[layer].unsqueeze(-1)
            self.z.append([])
            self.h.append([])
            self._walk(a_ROTB, layer)
        return product(self.last, self.h[-1][-1], self.last_bias)

    def _walk(self, a_ROTB: Tensor, layer: int) -> None:
        """One layer through time, from what its inputs give it at every step; fills its ``z`` and ``h``."""
        raise NotImplementedError

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors, 2)


class StackedRNN(_Recurrent):
    """h_t = φ(W·x_t + V·h_(t−1) + b), with h_0 = 0."""

    def _walk(self, a_ROTB: Tensor, layer: int) -> None:
        h = None
        for a in a_ROTB.unbind(2):
            z = a if h is None else product(self.recurrent[layer], h, a)
            h_SKUB = self.activations[layer].differentiable(z.unflatten(0, (self.seeds, -1)))
            h = h_SKUB.reshape(len(z), *h_SKUB.shape[2:])
            self.z[layer].append(z)
            self.h[layer].append(h)


class StackedLSTM(_Recurrent):
    """Gates i, f, g, o in torch's order; z is the cell's state and h = o·φ(z), with φ the activation, tanh by default."""

    def _walk(self, a_ROTB: Tensor, layer: int) -> None:
        h = cell = None
        for a in a_ROTB.unbind(2):
            gates = a if h is None else product(self.recurrent[layer], h, a)
            i, f, g, o = gates.chunk(4, 1)
            new = differentiable("sigmoid", i) * differentiable("tanh", g)
            cell = new if cell is None else differentiable("sigmoid", f) * cell + new
            out_SKUB = self.activations[layer].differentiable(cell.unflatten(0, (self.seeds, -1)))
            h = differentiable("sigmoid", o) * out_SKUB.reshape(cell.shape)
            self.z[layer].append(cell)
            self.h[layer].append(h)
