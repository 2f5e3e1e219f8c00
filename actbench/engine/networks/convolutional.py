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
from actbench.engine.networks.protocol import Parameter
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
        pack, sizes = plan.pack, plan.sizes
        self.image, self.on_gpu = data.shape.image, data.device.startswith("cuda")
        maker = WeightMaker(pack, data.device, data.dtype)
        self.norms: list[Norm] = []
        # leaves in the shapes that convolutions read: else autograd would copy gradients from shape to shape
        self._kernels: list[Tensor] = []
        self._shifts: list[Tensor] = []
        self._leaves: dict[Parameter, Tensor] = {}
        for place, layer in enumerate(sizes.layers):
            drawn, shift = maker.hidden(Fans(layer.inputs, layer.pre, layer.kernel))
            w, b = self.own(drawn, "weight", place), self.own(shift, "bias", place)
            self._leaves[w] = drawn.detach().view(-1, layer.inputs, KERNEL, KERNEL).requires_grad_()
            self._leaves[b] = shift.detach().view(-1).requires_grad_()
            self._kernels.append(self._leaves[w])
            self._shifts.append(self._leaves[b])
            if plan.spec.norm != "none":
                self.norms.append(Norm(plan.spec.norm, len(pack), layer.pre, data.device, data.dtype))
                self.own(self.norms[-1].scale, "scale", place)
        self.last = self.own(maker.draw(Fans(sizes.last_inputs, sizes.outputs)), "weight", self.depth).tensor
        self.last_bias = self.own(self.last.new_zeros(len(pack), sizes.outputs, 1), "bias", self.depth).tensor
        self._make_activations(data)
        self._starting = False
        if plan.spec.norm == "batch":  # running statistics begin as those of the probe set's first batch
            self._starting = True
            self.forward(data.probe_x[: plan.spec.batch_size].unsqueeze(0), backward=False)
            self._starting = False

    def _leaf(self, p: Parameter) -> Tensor:
        return self._leaves.get(p, p.tensor)

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        batch = x_GBI.shape[1]
        # what nothing reads later is freed at once, which keeps the rest in the cache
        measured, penalised = step is None, bool(self.plan.spec.activation_l1)
        alone = not (measured or penalised or self.dropout)
        h = block = x_GBI
        for place, layer in enumerate(self.plan.sizes.layers):
            bias = self._shifts[place]
            z = self._convolved(h, place, None if self.norms else bias)
            if self.norms:
                norm = self.norms[place]
                mode = "start" if self._starting else "eval" if step is None else "train"
                z = _Normalised.apply(z, norm.scale, bias, norm, mode)
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

    def _convolved(self, h: Tensor, place: int, bias: Tensor | None) -> Tensor:
        """[B, R·O, H, W] of what layer ``place`` reads: [B, R·I, H, W], or the inputs [G, B, I]."""
        if place:
            inputs, groups = [h], self.networks
        else:  # a convolution per group of networks: the library's grouped ones round differently
            inputs, groups = [self._as_images(x_BI) for x_BI in h.unbind(0)], 1
        stacks = self._stacks(inputs[0], place)
        if not stacks:
            each = self.networks // len(inputs)
            inputs = [part for one in inputs for part in (one.chunk(each, 1) if place else [one] * each)]
            groups = 1
        kernels = self._kernels[place].chunk(len(inputs))
        biases = [None] * len(inputs) if bias is None else bias.chunk(len(inputs))
        found = [
            F.conv2d(_dense(one), w, b, padding=KERNEL // 2, groups=groups)
            for one, w, b in zip(inputs, kernels, biases, strict=True)
        ]
        if not stacks:
            found = [_DenseGradient.apply(one) for one in found]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def _stacks(self, h: Tensor, place: int) -> bool:
        """Whether several networks' convolutions in one call give each the same bits as its own would."""
        if self.on_gpu:
            return True
        enough = self.plan.sizes.layers[place].pre >= LEAST_CHANNELS and min(h.shape[2:]) >= LEAST_SIDE
        return enough and len(h) > 1 and h.dtype == torch.float32

    def _as_images(self, x_BI: Tensor) -> Tensor:
        """[B, channels, H, W] in channels_last memory."""
        assert self.image is not None
        return x_BI.view(-1, *self.image).permute(0, 3, 1, 2)

    def _activated(self, z: Tensor, place: int) -> Tensor:
        if self.activations[place].any_layout:
            return self.activations[place].differentiable(z)
        batch, _, height, width = z.shape
        z_SKUBHW = z.view(batch, self.seeds, -1, self.plan.sizes.layers[place].pre, height, width).permute(1, 2, 3, 0, 4, 5)
        h = self.activations[place].differentiable(z_SKUBHW)
        return h.permute(3, 0, 1, 2, 4, 5).reshape(batch, -1, height, width)

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


class _DenseGradient(torch.autograd.Function):
    """Gradients of a network's convolution in memory of their own, as they are if it is alone."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> Tensor:
        return _dense(d)


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
    def forward(ctx: Any, a: Tensor, scale: Tensor, shift: Tensor, norm: Norm, mode: str) -> Tensor:
        ctx.norm = norm
        out_RUBP = norm.forward(_by_network(a, len(scale)), mode) + shift.view(*scale.shape[:2], 1, 1)
        return _as_image(out_RUBP, a)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        d_RUBP = _by_network(d, len(ctx.norm.scale))
        da_RUBP, of_scale = ctx.norm.backward(d_RUBP)
        return _as_image(da_RUBP, d), of_scale, d_RUBP.sum((2, 3)).flatten(), None, None
