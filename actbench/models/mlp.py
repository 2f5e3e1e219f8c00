"""Stacked multilayer perceptrons with a hand-written backward pass: a tenth faster than autograd, and δ lies open.

Shapes: R = S·K networks (S seeds, K variants each), O units of a layer, I its inputs, C classes, B examples, G groups
of networks that see the same batch: G = S in training, 1 in evaluation, where every network sees the same examples.
Activations are [R, units, B] and weights [R, O, I], so that the first layer of all networks of a group is one matrix
product, and nothing is ever transposed in memory. Inputs that never change (the margins of MNIST's images) are left out
of that product: their weights act together as one more bias.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from actbench.device_data import FixedInputs
from actbench.inits import INITS
from actbench.models.elementwise import LayerActivation, gain_of
from actbench.rng import stream
from actbench.spec import Pack, RunSpec

SeenForward = Callable[[int, Tensor, Tensor], None]
SeenBackward = Callable[[int, Tensor], None]


class StackedMLP:
    """R perceptrons of one shape.

    Attributes:
        weights, biases: one [R, O, I] and one [R, O, 1] per layer, the output layer last. The first layer's I are the
            inputs that vary.
        fixed_weights: [R, O, F] of the first layer's F inputs that are the same in every example; none, or one such.
        activations: one per hidden layer.
        z, h: the hidden layers' pre-activations and outputs of the last forward, [R, O, B] each.
    """

    def __init__(
        self, pack: Pack, features: int, classes: int, device: Any, dtype: torch.dtype, fixed: FixedInputs | None = None
    ) -> None:
        spec = pack.shared
        self.seeds, self.variants, self.depth = len(pack.seeds), len(pack.variants), spec.depth
        sizes = [features, *[spec.width] * spec.depth, classes]
        self.weights = _initial_weights(pack, sizes, device, dtype)
        self.fixed, self.fixed_weights = fixed, []
        if fixed is not None:
            self.fixed_weights = [self.weights[0][:, :, fixed.fixed]]
            self.weights[0] = self.weights[0][:, :, fixed.varying]
        start = torch.tensor([s.bias for s in pack.specs], device=device, dtype=dtype).view(-1, 1, 1)
        hidden = [start.expand(-1, spec.width, 1).clone() for _ in range(spec.depth)]
        self.biases = [*hidden, start.new_zeros(len(pack), classes, 1)]
        self.activations = [LayerActivation(pack, layer, device, dtype) for layer in range(spec.depth)]
        self.z: list[Tensor] = []
        self.h: list[Tensor] = []
        self._scratch: dict[str, Tensor] = {}

    def parameters(self) -> list[tuple[Tensor, slice | None]]:
        """Every trained tensor with the variants it belongs to: None for all, as [R, …]; a slice of K, as [S, k, …]."""
        dense = [(p, None) for p in (*self.weights, *self.biases, *self.fixed_weights)]
        return dense + [(p, part) for activation in self.activations for part, p in activation.parameters]

    def weights_of(self, layer: int, tensors: list[Tensor]) -> list[Tensor]:
        """Of tensors in the order of ``parameters``, those that belong to the weights of a layer."""
        extra = [tensors[2 * (self.depth + 1)]] if layer == 0 and self.fixed_weights else []
        return [tensors[layer], *extra]

    def forward(self, x_GBI: Tensor, seen: SeenForward | None = None) -> Tensor:
        """Logits [R, C, B]. The batch of a group is shared by its R/G networks.

        Calls ``seen(layer, z, h)`` for every hidden layer as soon as it is there, while it is in the cache.
        """
        groups, batch, features = x_GBI.shape
        self.z, self.h = [], []
        h = None
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = self._buffer(f"z{layer}", (len(w), w.shape[1], batch), w)
            if h is None:
                shared = (groups, -1, features)
                torch.bmm(w.view(shared), x_GBI.transpose(1, 2), out=z.view(groups, -1, batch))
                if self.fixed is not None:
                    b = torch.matmul(self.fixed_weights[0], self.fixed.values).unsqueeze(-1).add_(b)
            else:
                torch.bmm(w, h, out=z)
            z.add_(b)
            if layer == self.depth:
                return z
            h = self.activations[layer].forward(z)
            self.z.append(z)
            self.h.append(h)
            if seen is not None:
                seen(layer, z, h)
        raise AssertionError("unreachable: the output layer returns")

    def backward(self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], *, add: bool) -> None:
        """Gradients from δ of the output layer, summed over examples, into tensors in the order of ``parameters``.

        With ``add`` they are added: into the parameters themselves, δ having been scaled by −lr, that is a step of
        plain SGD without a gradient in between, since every gradient is linear in δ.
        """
        self._backward(x_GBI, delta_RCB, into, add, None)

    def observe(self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], seen: SeenBackward) -> None:
        """Like ``backward`` with ``add``; calls ``seen(layer, δ)`` for every hidden layer, last first."""
        self._backward(x_GBI, delta_RCB, into, True, seen)

    def _backward(self, x_GBI: Tensor, delta: Tensor, into: list[Tensor], add: bool, seen: SeenBackward | None) -> None:
        layers = self.depth + 1
        rest = 2 * layers + len(self.fixed_weights)
        in_weights, in_biases, in_fixed, in_rest = into[:layers], into[layers : 2 * layers], into[2 * layers : rest], into[rest:]
        for layer in reversed(range(layers)):
            w = self.weights[layer]
            if layer:
                dh = self._buffer(f"dh{layer % 2}", (len(w), w.shape[2], delta.shape[2]), w)
                torch.bmm(w.transpose(1, 2), delta, out=dh)  # before w changes
                left, right, target = delta, self.h[layer - 1].transpose(1, 2), in_weights[layer]
            else:
                groups, batch, features = x_GBI.shape
                left, right = delta.view(groups, -1, batch), x_GBI
                target = in_weights[0].view(groups, -1, features)
            delta_sum = delta.sum(-1, keepdim=True)
            if add:
                target.baddbmm_(left, right)
                in_biases[layer].add_(delta_sum)
            else:
                torch.bmm(left, right, out=target)
                in_biases[layer].copy_(delta_sum)
            if not layer and self.fixed is not None:
                in_fixed[0].mul_(int(add)).addcmul_(delta_sum, self.fixed.values)
            if layer:
                delta, gradients = self.activations[layer - 1].backward(dh)
                if gradients:
                    in_rest = self._keep_rest(gradients, in_rest, add)
                if seen is not None:
                    seen(layer - 1, delta)

    @staticmethod
    def _keep_rest(gradients: list[Tensor], in_rest: list[Tensor], add: bool) -> list[Tensor]:
        """Stores one layer's activation gradients in the last of ``in_rest``; returns the earlier layers' part."""
        cut = len(in_rest) - len(gradients)
        for target, gradient in zip(in_rest[cut:], gradients, strict=True):
            if add:
                target.add_(gradient)
            else:
                target.copy_(gradient)
        return in_rest[:cut]

    def _buffer(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Memory that is used again from step to step, large enough for the largest batch so far."""
        size = shape[0] * shape[1] * shape[2]
        kept = self._scratch.get(name)
        if kept is None or kept.numel() < size:
            kept = self._scratch[name] = like.new_empty(size)
        return kept[:size].view(shape)


def _initial_weights(pack: Pack, sizes: list[int], device: Any, dtype: torch.dtype) -> list[Tensor]:
    """One [R, O, I] per layer. Each seed draws its noise once, layer by layer, for all its variants."""
    generators = [stream(seed, "weights") for seed in pack.seeds]
    kinds = [_kind_of_init(spec) for spec in pack.variants]
    weights = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        noise_SOI = torch.stack([torch.from_numpy(g.standard_normal((fan_out, fan_in))) for g in generators])
        w_SKOI = torch.empty(len(generators), len(kinds), fan_out, fan_in, device=device, dtype=dtype)
        for kind in dict.fromkeys(kinds):
            name, init_gain, gain = kind
            of_kind = [k for k, other in enumerate(kinds) if other == kind]
            w_SOI = INITS[name].weights(noise_SOI, gain) * init_gain
            w_SKOI[:, of_kind] = w_SOI.to(device=device, dtype=dtype).unsqueeze(1)
        weights.append(w_SKOI.view(len(pack), fan_out, fan_in))
    return weights


def _kind_of_init(spec: RunSpec) -> tuple[str, float, float]:
    return spec.init, spec.init_gain, gain_of(spec) if INITS[spec.init].wants_gain else 1.0
