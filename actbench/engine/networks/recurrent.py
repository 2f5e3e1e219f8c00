"""Stacked recurrent networks over the rows or pixels of an image: vanilla, and long short-term memory (LSTM).

Shapes: R = S·K networks (S seeds, K variants), T time steps, B examples, I inputs of a step, U units, O pre-activations
(of all gates), G groups of networks that see the same batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.plan.architecture import Architecture
from actbench.engine.device_data import DeviceData
from actbench.science.inits import Fans
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.by_autograd import GraphNetworks
from actbench.engine.networks.weights import WeightMaker
from actbench.study.spec import Pack


class _Recurrent(GraphNetworks):
    """What both have in common: input weights [R, O, I], recurrent weights [R, O, U] and biases [R, O, 1] per layer."""

    def __init__(self, pack: Pack, sizes: Architecture, data: DeviceData) -> None:
        device, dtype = data.device, data.dtype
        super().__init__(pack, sizes, device, dtype)
        self.seeds, self.steps = len(pack.seeds), sizes.layers[0].positions
        maker = WeightMaker(pack, device, dtype)
        self.weights, self.recurrent, self.biases = [], [], []
        for place, layer in enumerate(sizes.layers):
            w, b = maker.hidden(Fans(layer.inputs, layer.pre), blocks=layer.gates)
            self.weights.append(self._own(w, place))
            back = maker.draw(Fans(layer.units, layer.pre), blocks=layer.gates, recurrent=True)
            self.recurrent.append(self._own(back, place))
            self.biases.append(self._own(self._first_biases(b, layer.pre)))
        last = maker.draw(Fans(sizes.last_inputs, sizes.outputs))
        self.weights.append(self._own(last, self.depth))
        self.biases.append(self._own(last.new_zeros(len(pack), sizes.outputs, 1)))

    def _first_biases(self, b_RO1: Tensor, units: int) -> Tensor:
        return b_RO1

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        groups, batch, _ = x_GBI.shape
        x_GTBI = x_GBI.view(groups, batch, self.steps, -1).transpose(1, 2)
        first = self.weights[0]
        shared = first.view(groups, -1, first.shape[2])
        a = torch.bmm(shared, x_GTBI.reshape(groups, self.steps * batch, -1).transpose(1, 2))
        for layer in range(self.depth):
            if layer:
                a = torch.bmm(self.weights[layer], torch.cat(self.h[-1], 2))
            a_ROTB = a.view(self.networks, -1, self.steps, batch) + self.biases[layer].unsqueeze(-1)
            self.z.append([])
            self.h.append([])
            self._walk(a_ROTB, layer)
        return torch.baddbmm(self.biases[-1], self.weights[-1], self.h[-1][-1])

    def _walk(self, a_ROTB: Tensor, layer: int) -> None:
        """One layer through time, from what its inputs give it at every step; fills its ``z`` and ``h``."""
        raise NotImplementedError

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors, 2)


class StackedRNN(_Recurrent):
    """h_t = φ(W·x_t + V·h_(t−1) + b), with h_0 = 0."""

    def __init__(self, pack: Pack, sizes: Architecture, data: DeviceData) -> None:
        super().__init__(pack, sizes, data)
        self.activations = [
            LayerActivation(pack, place, layer.pre, data.device, data.dtype) for place, layer in enumerate(sizes.layers)
        ]
        self.parameters()  # those of activations begin to ask for gradients

    def _walk(self, a_ROTB: Tensor, layer: int) -> None:
        h = None
        for a in a_ROTB.unbind(2):
            z = a if h is None else torch.baddbmm(a, self.recurrent[layer], h)
            h_SKUB = self.activations[layer].differentiable(z.view(self.seeds, -1, *z.shape[1:]))
            h = h_SKUB.reshape(len(z), *h_SKUB.shape[2:])
            self.z[layer].append(z)
            self.h[layer].append(h)


class StackedLSTM(_Recurrent):
    """Gates i, f, g, o in torch's order; z is the cell's state, h = o·tanh(z)."""

    def _first_biases(self, b_RO1: Tensor, units: int) -> Tensor:
        b_RO1[:, units : 2 * units] += 1  # forget gates start open (Jozefowicz et al. 2015)
        return b_RO1

    def _walk(self, a_ROTB: Tensor, layer: int) -> None:
        h = cell = None
        for a in a_ROTB.unbind(2):
            gates = a if h is None else torch.baddbmm(a, self.recurrent[layer], h)
            i, f, g, o = gates.chunk(4, 1)
            new = torch.sigmoid(i) * torch.tanh(g)
            cell = new if cell is None else torch.sigmoid(f) * cell + new
            h = torch.sigmoid(o) * torch.tanh(cell)
            self.z[layer].append(cell)
            self.h[layer].append(h)
