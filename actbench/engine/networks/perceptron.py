"""Stacked perceptrons with a hand-written backward pass: a tenth faster than autograd, and δ lies open.

Shapes: R = S·K networks (S seeds, K variants each), O pre-activations of a layer, I its inputs, C outputs, B examples, G
groups of networks that see the same batch: G = S in training, 1 in evaluation, where every network sees the same examples.
Activations are [R, units, B] and weights [R, O, I], so that the first layer of all networks of a group is one matrix
product, and nothing is ever transposed in memory. Inputs that never change (the margins of MNIST's images) are left out
of that product: their weights act together as one more bias.
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.plan.architecture import Architecture
from actbench.engine.device_data import DeviceData, FixedInputs
from actbench.science.inits import Fans
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.by_autograd import Parameter, SeenBackward, SeenForward
from actbench.engine.networks.regularise import Dropout, Norm, penalty_gradient
from actbench.engine.networks.rounding import rounding
from actbench.engine.networks.weights import WeightMaker
from actbench.plan.costs import uses_plain_sgd
from actbench.study.spec import Pack


class StackedMLP:
    """R perceptrons of one shape: classifiers, or autoencoders.

    Attributes:
        sizes: the sizes of its layers.
        weights, biases: one [R, O, I] and one [R, O, 1] per layer, the output layer last. The first layer's I are the
            inputs that vary.
        fixed_weights: [R, O, F] of the first layer's F inputs that are the same in every example; none, or one such.
        norms: one per hidden layer, or none; the biases are their shifts.
        activations: one per hidden layer.
        h: the hidden layers' outputs (before dropout) of the last forward, [R, O, B] each.
        scratch: memory that is used again from step to step, by name.
    """

    def __init__(self, pack: Pack, sizes: Architecture, data: DeviceData) -> None:
        spec, fixed, device, dtype = pack.shared, data.fixed, data.device, data.dtype
        self.seeds, self.variants, self.depth, self.sizes = len(pack.seeds), len(pack.variants), len(sizes.layers), sizes
        self.networks, self._pre = len(pack), [*(layer.pre for layer in sizes.layers), sizes.outputs]
        maker = WeightMaker(pack, device, dtype)
        layers = [maker.hidden(Fans(layer.inputs, layer.pre)) for layer in sizes.layers]
        self.weights = [*(w for w, _ in layers), maker.draw(Fans(sizes.last_inputs, sizes.outputs))]
        self.biases = [*(b for _, b in layers), self.weights[0].new_zeros(len(pack), sizes.outputs, 1)]
        self.fixed, self.fixed_weights = fixed, []
        if fixed is not None:
            self.fixed_weights = [self.weights[0][:, :, fixed.fixed]]
            self.weights[0] = self.weights[0][:, :, fixed.varying]
        normed = sizes.layers if spec.norm != "none" else ()
        self.norms = [Norm(spec.norm, len(pack), layer.pre, device, dtype) for layer in normed]
        self.dropout = Dropout(pack, device, dtype) if spec.dropout else None
        self.activations = [LayerActivation(pack, place, layer.pre, device, dtype) for place, layer in enumerate(sizes.layers)]
        self.h: list[Tensor] = []
        self._masks: list[Tensor] = []
        self._read: list[Tensor] = []  # what the layers after the first read
        self.scratch: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[int, int, int]], Tensor] = {}
        self._round = rounding(spec.dtype)
        # plain SGD moves fixed_weights only when they are read; what they add to the first layer, [R, O, 1], is kept, and so is
        # what has yet to be added to them, over the inputs' values
        self._moves_late = fixed is not None and uses_plain_sgd(spec)
        if fixed is not None and self._moves_late:
            self._fixed_sum = self._sum_of_fixed(fixed)
            self._fixed_moved = torch.zeros_like(self._fixed_sum)
        if spec.norm == "batch":
            self._forward(data.probe_x[: spec.batch_size].unsqueeze(0), None, None, "start")

    def parameters(self) -> list[Parameter]:
        """Every trained tensor with the variants it belongs to: None for all, as [R, …]; a slice of K, as [S, k, …].

        The tensors stay the same; after steps of plain SGD their values are up to date only once this was called.
        """
        self._settle_fixed()
        scales = [norm.scale for norm in self.norms]
        dense: list[Parameter] = [(p, None) for p in (*self.weights, *self.biases, *self.fixed_weights, *scales)]
        return dense + [(p, part) for activation in self.activations for part, p in activation.parameters]

    def weights_of(self, layer: int, tensors: list[Tensor]) -> list[Tensor]:
        """Of tensors in the order of ``parameters``, those that belong to the weights of a layer."""
        extra = [tensors[2 * (self.depth + 1)]] if layer == 0 and self.fixed_weights else []
        return [tensors[layer], *extra]

    def all_weights(self, tensors: list[Tensor]) -> list[Tensor]:
        """Of tensors in the order of ``parameters``, those that are weights, of any layer."""
        return [w for layer in range(self.depth + 1) for w in self.weights_of(layer, tensors)]

    def forward(self, x_GBI: Tensor, seen: SeenForward | None = None, *, step: int | None = None, graph: bool = True) -> Tensor:
        """Outputs [R, C, B]. The batch of a group is shared by its R/G networks.

        Args:
            seen: called with (layer, z, h, B) for every hidden layer as soon as it is there, while it is in the cache.
            step: which training step this is; None in evaluation, where nothing is dropped.
            graph: whether a backward pass will follow (of no account here).
        """
        return self._forward(x_GBI, seen, step, "eval" if step is None else "train")

    def _forward(self, x_GBI: Tensor, seen: SeenForward | None, step: int | None, mode: str) -> Tensor:
        groups, batch, _ = x_GBI.shape
        self.h, self._masks, self._read = [], [], []
        h = None
        if self._round is not None:
            x_GBI = self._round(x_GBI)
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if self._round is not None:
                w = self._round(w)
            in_place = layer < self.depth and self.activations[layer].in_place and mode == "train"
            # fewer bytes are faster: what no derivative asks for later is overwritten in the next layer
            kept = in_place or layer == self.depth or self.activations[layer].keeps_z
            name, pre = f"z{layer}" if kept else "passing0", self._pre[layer]
            z = self._buffer(name, (self.networks, pre, batch), w)
            if h is None:
                out = self._buffer(name, (groups, self.networks // groups * pre, batch), w)
                torch.bmm(self._by_group(w, groups), x_GBI.transpose(1, 2), out=out)
                if self.fixed is not None:
                    fixed = self._fixed_sum if self._moves_late else self._sum_of_fixed(self.fixed)
                    b = fixed + b if not self.norms else self._add_before_norm(z, fixed, b)
            else:
                torch.bmm(w, h, out=z)
            if self.norms and layer < self.depth:
                z = self.norms[layer].forward(z, mode)
            z.add_(b)
            if layer == self.depth:
                return z
            h = self.activations[layer].forward(z, in_place=in_place)
            self.h.append(h)
            if seen is not None:
                seen(layer, z, h, batch)
            if self.dropout is not None and step is not None:
                mask = self.dropout.mask(step, layer, (h.shape[1], batch))
                self._masks.append(mask)
                h = h * mask
            if self._round is not None:
                h = self._round(h)
            self._read.append(h)
        raise AssertionError("unreachable: the output layer returns")

    @staticmethod
    def _add_before_norm(z: Tensor, fixed: Tensor, b: Tensor) -> Tensor:
        z.add_(fixed)
        return b

    def backward(
        self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], *, add: bool, penalty_R: Tensor | None = None
    ) -> None:
        """Gradients from δ of the output layer, summed over examples, into tensors in the order of ``parameters``.

        With ``add`` they are added: into the parameters themselves, δ having been scaled by −lr, that is a step of
        plain SGD without a gradient in between, since every gradient is linear in δ.

        Args:
            penalty_R: adds the gradient of this times the sum of |h| of the hidden layers.
        """
        self._backward(x_GBI, delta_RCB, into, add, penalty_R, None)

    def observe(self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], seen: SeenBackward, *, add: bool) -> None:
        """Like ``backward``; calls ``seen(layer, δ, B)`` for every hidden layer, last first."""
        self._backward(x_GBI, delta_RCB, into, add, None, seen)

    def _backward(
        self, x_GBI: Tensor, delta: Tensor, into: list[Tensor], add: bool, penalty_R: Tensor | None, seen: SeenBackward | None
    ) -> None:
        layers, (groups, batch, _) = self.depth + 1, x_GBI.shape
        ends = [layers, 2 * layers, 2 * layers + len(self.fixed_weights)]
        ends.append(ends[-1] + len(self.norms))
        in_weights, in_biases, in_fixed, in_scales, in_rest = (
            into[start:stop] for start, stop in zip([0, *ends], [*ends, None], strict=True)
        )
        for layer in reversed(range(layers)):
            w = self.weights[layer]
            delta_sum = delta.sum(-1, keepdim=True)
            _keep(in_biases[layer], delta_sum, add)
            if self.norms and layer < self.depth:
                delta, in_scale = self.norms[layer].backward(delta)
                _keep(in_scales[layer], in_scale, add)
                delta_sum = delta.sum(-1, keepdim=True)
            if self._round is not None:
                w, delta, x_GBI = self._round(w), self._round(delta), x_GBI if layer else self._round(x_GBI)
            if layer:
                dh = self._buffer(f"passing{layer % 2}", (self.networks, w.shape[2], batch), w)
                torch.bmm(w.transpose(1, 2), delta, out=dh)  # before w changes
                left, right, target = delta, self._read[layer - 1].transpose(1, 2), in_weights[layer]
            else:
                left, right = delta.view(groups, -1, batch), x_GBI
                target = self._by_group(in_weights[0], groups)
            if add:
                target.baddbmm_(left, right)
            else:
                torch.bmm(left, right, out=target)
            if not layer and self.fixed is not None:
                if in_fixed[0] is self.fixed_weights[0]:
                    self._fixed_moved.add_(delta_sum)
                    self._fixed_sum.add_(delta_sum * self.fixed.square)
                else:
                    _keep(in_fixed[0], delta_sum * self.fixed.values, add)
            if layer:
                if self._masks:
                    dh.mul_(self._masks[layer - 1])
                if penalty_R is not None:
                    dh.add_(penalty_gradient(self.h[layer - 1], penalty_R))
                delta, gradients = self.activations[layer - 1].backward(dh)
                if gradients:
                    in_rest = self._keep_rest(gradients, in_rest, add)
                if seen is not None:
                    seen(layer - 1, delta, delta.shape[2])

    def _sum_of_fixed(self, fixed: FixedInputs) -> Tensor:
        return torch.matmul(self.fixed_weights[0], fixed.values).unsqueeze(-1)

    def _settle_fixed(self) -> None:
        if self.fixed is not None and self._moves_late:
            self.fixed_weights[0].add_(self._fixed_moved * self.fixed.values)
            self._fixed_moved.zero_()
            self._fixed_sum.copy_(self._sum_of_fixed(self.fixed))

    @staticmethod
    def _keep_rest(gradients: list[Tensor], in_rest: list[Tensor], add: bool) -> list[Tensor]:
        """Stores one layer's activation gradients in the last of ``in_rest``; returns the earlier layers' part."""
        cut = len(in_rest) - len(gradients)
        for target, gradient in zip(in_rest[cut:], gradients, strict=True):
            _keep(target, gradient, add)
        return in_rest[:cut]

    @staticmethod
    def _by_group(w_ROI: Tensor, groups: int) -> Tensor:
        return w_ROI.view(groups, -1, w_ROI.shape[2])

    def _buffer(self, name: str, shape: tuple[int, int, int], like: Tensor) -> Tensor:
        """Memory that is used again from step to step, large enough for the largest batch so far."""
        found = self._views.get((name, shape))
        if found is not None:
            return found
        size = shape[0] * shape[1] * shape[2]
        kept = self.scratch.get(name)
        if kept is None or kept.numel() < size:
            kept = self.scratch[name] = like.new_empty(size)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
        view = self._views[name, shape] = kept[:size].view(shape)
        return view


def _keep(target: Tensor, gradient: Tensor, add: bool) -> None:
    if add:
        target.add_(gradient)
    else:
        target.copy_(gradient)
