"""Stacked convolutional networks, plain or with identity skips, on [B, channels, height, width] in channels_last memory.

A pack of one network is an ordinary convolution, which on a CPU is the fast way (tests/benchmarks/NOTES.md); several are
grouped convolutions, the channels of all networks side by side.

Shapes: R = S·K networks (S seeds, K variants), B examples, U channels of one network, H × W positions, G groups of
networks that see the same batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import product
from actbench.engine.networks.by_autograd import AutogradNetworks
from actbench.engine.networks.regularise import Norm
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.architecture import KERNEL
from actbench.plan.pack_plan import PackPlan
from actbench.science.inits import Fans

LEAST_CHANNELS = 4  # of one network, and
LEAST_SIDE = 3  # of an image: smaller convolutions round by how many are grouped


class StackedConvolutions(AutogradNetworks):
    """R networks of 3×3 convolutions: weights [R, O, I·9], biases (or, normalised, shifts) [R, O, 1]."""

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan, data)
        spec, sizes = plan.spec, plan.sizes
        self.image, self.on_gpu = data.shape.image, data.device.startswith("cuda")
        maker = WeightMaker(plan.pack, data.device, data.dtype)
        self.kernels: list[Tensor] = []
        self.shifts: list[Tensor] = []
        self.norms: list[Norm] = []
        for place, layer in enumerate(sizes.layers):
            w, b = maker.draw(Fans(layer.inputs, layer.pre, layer.kernel))
            self.own(w, "weight", place, shape=(-1, layer.inputs, KERNEL, KERNEL))
            self.own(b, "bias", place, shape=(-1,))
            self.kernels.append(self.leaves[-2])
            self.shifts.append(self.leaves[-1])
            if spec.norm != "none":
                self.norms.append(Norm(spec.norm, self.networks, layer.pre, data.device, data.dtype))
                self.own(self.norms[-1].scale, "scale", place)
        self._make_output(*maker.draw(Fans(sizes.last_inputs, sizes.outputs), hidden=False), data)
        if spec.norm == "batch":
            self.forward(data.probe_x[: spec.batch_size].unsqueeze(0))

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        batch = x_GBI.shape[1]
        # what nothing reads later is freed at once, which keeps the rest in the cache
        measured, penalised = step is None, bool(self.plan.spec.activation_l1)
        alone = not (measured or penalised or self.dropout)
        h = block = x_GBI
        for place, layer in enumerate(self.plan.sizes.layers):
            z = self._convolved(h, place)
            if self.norms:
                z = _Normalised.apply(z, self.norms[place].scale, self.shifts[place], self.norms[place], step is not None)
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
        return product(self.last, h_RIB, self.last_bias)

    def _convolved(self, h: Tensor, place: int) -> Tensor:
        """[B, R·O, H, W], with biases unless normalised, of what a layer reads: [B, R·I, H, W], or the inputs [G, B, I]."""
        if place:
            inputs, groups = [h], self.networks
        else:  # a convolution per group of networks: the library's grouped ones round differently
            assert self.image is not None
            inputs, groups = [x_BI.view(-1, *self.image).permute(0, 3, 1, 2) for x_BI in h.unbind(0)], 1
        stacks = self._stacks(inputs[0], place)
        if not stacks:
            each = self.networks // len(inputs)
            inputs = [part for one in inputs for part in (one.chunk(each, 1) if place else [one] * each)]
            groups = 1
        kernels, biases = self.kernels[place].chunk(len(inputs)), self.shifts[place].chunk(len(inputs))
        if stacks and place and self.networks == 1 < self.plan.full:
            # twice itself, since the library's ordinary convolutions round differently from its grouped ones
            twice = (torch.cat([t, t]) for t in (kernels[0], biases[0]))
            h, kernel, bias = torch.cat([h, h], 1), *twice
            return F.conv2d(_dense(h), kernel, None if self.norms else bias, padding=KERNEL // 2, groups=2).chunk(2, 1)[0]
        found = [
            F.conv2d(_dense(one), w, None if self.norms else b, padding=KERNEL // 2, groups=groups)
            for one, w, b in zip(inputs, kernels, biases, strict=True)
        ]
        for one in found:
            if not stacks and one.requires_grad:  # the gradient in memory of its own, as it is if the network is alone
                one.register_hook(_dense)
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def _stacks(self, h: Tensor, place: int) -> bool:
        """Whether several networks' convolutions in one call give each the same bits as its own would."""
        if self.on_gpu:
            return True
        enough = self.plan.sizes.layers[place].pre >= LEAST_CHANNELS and min(h.shape[2:]) >= LEAST_SIDE
        return enough and len(h) > 1 and h.dtype == torch.float32

    def _activated(self, z: Tensor, place: int) -> Tensor:
        activation, pre = self.activations[place], self.plan.sizes.layers[place].pre
        if activation.any_layout:
            return activation.differentiable(z)
        z_SKUBHW = z.view(len(z), self.seeds, -1, pre, *z.shape[2:]).permute(1, 2, 3, 0, 4, 5)
        h_SKUBHW = activation.differentiable(z_SKUBHW)
        return h_SKUBHW.permute(3, 0, 1, 2, 4, 5).reshape(len(z), -1, *z.shape[2:])

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        return _by_network(tensors[0], self.networks).flatten(2)

    def _penalty(self, h: Tensor, strength_R: Tensor) -> Tensor:
        each = strength_R.view(-1, 1).expand(-1, h.shape[1] // self.networks).reshape(1, -1, 1, 1)
        return torch.sign(h) * each


def _dense(h: Tensor) -> Tensor:
    """[B, channels, H, W] in channels_last memory."""
    h = h.contiguous(memory_format=torch.channels_last)
    if h.shape[1] > 1:
        return h
    # an image of one channel has both layouts; strides that only channels_last has make torch keep to it
    return h.as_strided(h.shape, (h.shape[2] * h.shape[3], 1, h.shape[3], 1))


def _by_network(t: Tensor, networks: int) -> Tensor:
    """[B, R·U, H, W] as [R, U, B, P], contiguous: sums over examples and positions then have one order."""
    return t.view(len(t), networks, -1, *t.shape[2:]).permute(1, 2, 0, 3, 4).flatten(3).contiguous()


def _as_image(t_RUBP: Tensor, like: Tensor) -> Tensor:
    """[R, U, B, P] as [B, R·U, H, W] in the memory order of ``like``."""
    by_example = t_RUBP.permute(2, 0, 1, 3).reshape(like.shape)
    return torch.empty_like(like).copy_(by_example)


class _Normalised(torch.autograd.Function):
    """A normalised and shifted convolution, [B, R·U, H, W]; scale and shift are [R, U, 1] and [R·U]."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, scale: Tensor, shift: Tensor, norm: Norm, training: bool) -> Tensor:
        ctx.norm = norm
        out_RUBP = norm.forward(_by_network(a, len(scale)), training=training) + shift.view(*scale.shape[:2], 1, 1)
        return _as_image(out_RUBP, a)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        d_RUBP = _by_network(d, len(ctx.norm.scale))
        da_RUBP, of_scale = ctx.norm.backward(d_RUBP)
        return _as_image(da_RUBP, d), of_scale, d_RUBP.sum((2, 3)).flatten(), None, None
