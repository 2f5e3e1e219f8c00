"""Stacked convolutional networks, plain or with identity skips, on [B, channels, height, width] in channels_last memory.

A pack of one network is an ordinary convolution, which on a CPU is the fast way (tests/benchmarks/NOTES.md); several are
grouped convolutions, the channels of all networks side by side.

Shapes: R = S·K networks (S seeds, K variants), B examples, U channels of one network, H × W positions, G groups of
networks that see the same batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.plan.architecture import KERNEL, Architecture
from actbench.engine.device_data import DeviceData
from actbench.science.inits import Fans
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.by_autograd import GraphNetworks
from actbench.engine.networks.regularise import EPS, MOMENTUM
from actbench.engine.networks.weights import WeightMaker
from actbench.study.spec import Pack


class StackedCNN(GraphNetworks):
    """R networks of 3×3 convolutions: weights [R, O, I·9], biases (or, normalised, shifts) [R, O, 1]."""

    def __init__(self, pack: Pack, sizes: Architecture, data: DeviceData) -> None:
        device, dtype = data.device, data.dtype
        super().__init__(pack, sizes, device, dtype)
        self.seeds, self.norm, self.image = len(pack.seeds), pack.shared.norm, data.shape.image
        maker = WeightMaker(pack, device, dtype)
        drawn = [maker.hidden(Fans(layer.inputs, layer.pre, layer.kernel)) for layer in sizes.layers]
        self.weights = [self._own(w, place) for place, (w, _) in enumerate(drawn)]
        last = maker.draw(Fans(sizes.last_inputs, sizes.outputs))
        self.weights.append(self._own(last, self.depth))
        self.biases = [self._own(b) for b in (*(b for _, b in drawn), last.new_zeros(len(pack), sizes.outputs, 1))]
        pres = [layer.pre for layer in sizes.layers]
        self.scales = [self._own(last.new_ones(len(pack), pre, 1)) for pre in pres] if self.norm != "none" else []
        self.running = [(last.new_zeros(len(pack) * pre), last.new_ones(len(pack) * pre)) for pre in pres]
        self.activations = [LayerActivation(pack, place, pre, device, dtype) for place, pre in enumerate(pres)]
        self.parameters()  # those of activations begin to ask for gradients
        # leaves of their own in the shapes that convolutions read: else autograd would copy gradients from shape to shape
        self._kernels = [
            w.detach().view(-1, layer.inputs, KERNEL, KERNEL).requires_grad_()
            for w, layer in zip(self.weights, sizes.layers, strict=False)
        ]
        self._shifts = [b.detach().view(-1).requires_grad_() for b in self.biases[:-1]]
        self._starting = False
        if self.norm == "batch":  # running statistics start as those of the first batch of the probe set
            self._starting = True
            self.forward(data.probe_x[: pack.shared.batch_size].unsqueeze(0), graph=False)
            self._starting = False

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        groups, batch, _ = x_GBI.shape
        # what nothing reads later is freed at once, which keeps the rest in the cache
        measured, penalised = step is None, bool(self.pack.shared.activation_l1)
        alone = not (measured or penalised or self.dropout)
        h = block = self._as_images(x_GBI)
        for place, layer in enumerate(self.sizes.layers):
            w, bias = self._kernels[place], self._shifts[place]
            fused = bias if self.norm == "none" else None
            z = F.conv2d(h, w, fused, padding=KERNEL // 2, groups=groups if place == 0 else self.networks)
            if self.norm != "none":
                z = self._normalised(z, place, step) + bias.view(1, -1, 1, 1)
            if layer.block_end:
                z = z + block
            # the largest of φ(z) is φ of the largest z: a quarter of the work, where nobody looks at the rest
            early = layer.pooled and alone and self.activations[place].increasing
            h = self._activated(F.max_pool2d(z, 2) if early else z, place)
            self.z.append([z] if measured else [])
            self.h.append([h] if measured or penalised else [])
            if self.dropout is not None and step is not None:
                mask = self.dropout.mask(step, place, (layer.units, *h.shape[2:], batch))
                h = h * mask.permute(4, 0, 1, 2, 3).reshape(h.shape)
            if layer.pooled and not early:
                h = F.max_pool2d(h, 2)
            if place == 0 or layer.block_end:
                block = h
        h_RIB = h.reshape(batch, self.networks, -1).permute(1, 2, 0)
        return torch.baddbmm(self.biases[-1], self.weights[-1], h_RIB)

    def _leaves(self) -> list[Tensor]:
        own = super()._leaves()
        own[: self.depth] = self._kernels
        own[self.depth + 1 : 2 * self.depth + 1] = self._shifts
        return own

    def _as_images(self, x_GBI: Tensor) -> Tensor:
        """[B, G·channels, H, W] in channels_last memory, the groups' examples side by side."""
        assert self.image is not None
        height, width, channels = self.image
        x = x_GBI.view(*x_GBI.shape[:2], height, width, channels).permute(1, 0, 4, 2, 3).flatten(1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        if x.shape[1] > 1:
            return x
        # an image of one channel has both layouts; strides that only channels_last has make torch keep to it
        return x.as_strided(x.shape, (height * width, 1, width, 1))

    def _activated(self, z: Tensor, place: int) -> Tensor:
        if self.activations[place].any_layout:
            return self.activations[place].differentiable(z)
        batch, _, height, width = z.shape
        z_SKUBHW = z.view(batch, self.seeds, -1, self.sizes.layers[place].pre, height, width).permute(1, 2, 3, 0, 4, 5)
        h = self.activations[place].differentiable(z_SKUBHW)
        return h.permute(3, 0, 1, 2, 4, 5).reshape(batch, -1, height, width)

    def _normalised(self, a: Tensor, place: int, step: int | None) -> Tensor:
        scale = self.scales[place]
        if self.norm == "batch":
            training = step is not None or self._starting
            momentum = 1.0 if self._starting else MOMENTUM
            mean, variance = self.running[place]
            return F.batch_norm(a, mean, variance, scale.view(-1), None, training, momentum, EPS)
        a_BRUHW = a.view(len(a), self.networks, -1, *a.shape[2:])
        variance, mean = torch.var_mean(a_BRUHW, (2, 3, 4), correction=0, keepdim=True)
        normal = (a_BRUHW - mean) * (variance + EPS).rsqrt()
        return (normal * scale.view(1, *scale.shape[:2], 1, 1)).view(a.shape)

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        (t,) = tensors
        return t.view(len(t), self.networks, -1, *t.shape[2:]).permute(1, 2, 0, 3, 4).flatten(2)

    def _penalty(self, h: Tensor, strength_R: Tensor) -> Tensor:
        each = strength_R.view(-1, 1).expand(-1, h.shape[1] // self.networks).reshape(1, -1, 1, 1)
        return torch.sign(h) * each
