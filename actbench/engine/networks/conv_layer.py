"""One convolutional layer of all networks, with its forward and its written backward pass.

Shapes: R networks, B examples, U channels of one network, H × W = P positions, N = B·P values of a unit. Images are
[B, R·U, H, W], see ``images``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.engine.networks.convolution import Convolution
from actbench.engine.networks.images import as_image, by_network, in_order_of, units_of_one
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Parameter
from actbench.engine.networks.regularise import Dropout, Norm
from actbench.plan.architecture import Layer
from actbench.science.layer_stats import LayerStats

POOL = [2, 2]  # positions of a maximum


@dataclass
class ConvLayer:
    """z = W∗x + b, perhaps normalised, perhaps plus a block's input; h = φ(z); what follows reads h, perhaps with some of it
    dropped, perhaps the largest of each 2×2.
    """

    place: int  # which layer it is, from 0
    sizes: Layer
    networks: int  # R
    alone: bool  # whether no network of this kind ever has company, so that nothing rounds by it
    convolution: Convolution
    weight: Parameter  # [R, O, I·9]
    bias: Parameter  # [R, O, 1]; where there is a norm, its shift
    activation: LayerActivation
    slopes: list[Parameter]  # trained parameters of φ
    norm: Norm | None = None
    scale: Parameter | None = None  # the factor of the normalisation
    dropout: Dropout | None = None
    _pooled: tuple[Tensor, Tensor] = field(init=False)  # what was pooled, and where its largest values are

    @property
    def begins_block(self) -> bool:
        """Whether a block of a resnet reads what it gives."""
        return self.place == 0 or self.sizes.block_end

    def forward(
        self, inputs: list[Tensor], block: Tensor | None, step: int | None, stats: list[LayerStats] | None, *, penalised: bool
    ) -> Tensor:
        """What the next layer reads.

        Args:
            inputs: what this layer reads, see ``Convolution``.
            block: the input of the block that ends here.
            step: which training step this is, if it is one.
            stats: is given z and h, and δ by the backward pass.
            penalised: whether the backward pass is given a penalty on h.
        """
        self.stats, training = stats, step is not None
        z = self.convolution.forward(inputs)
        if self.norm is not None:
            z_RUBP = self.norm.forward(by_network(z, self.networks), training=training) + self.bias.tensor.unsqueeze(-1)
            z = as_image(z_RUBP, z.shape[2])
        if block is not None:
            z.add_(block)
        dropped = self.dropout is not None and training
        # the largest of φ(z) is φ of the largest z: a quarter of the work, where nobody looks at the rest
        self.early = self.sizes.pooled and self.activation.increasing and not (stats or penalised or dropped)
        h = self._activated(self._pool(z) if self.early else z, in_place=training)
        self.h = h if penalised else None
        self.mask = None
        if self.dropout is not None and step is not None:
            mask = self.dropout.mask(step, self.place, (self.sizes.units, *h.shape[2:], len(h)))
            self.mask = mask.permute(4, 0, 1, 2, 3).reshape(h.shape)
            h = h * self.mask
        return self._pool(h) if self.sizes.pooled and not self.early else h

    def backward(self, d: Tensor, gradients: Gradients, penalty_R: Tensor | None) -> tuple[Tensor, Tensor]:
        """(∂loss/∂x, but for the first layer, and ∂loss/∂ the block's input) from ∂loss/∂(what ``forward`` gave).

        The memory of d may be taken. Gradients are summed over examples.
        """
        if self.sizes.pooled and not self.early:
            d = self._unpool(d)
        if self.mask is not None:
            d = d * self.mask
        if penalty_R is not None and self.h is not None:
            each = penalty_R.view(-1, 1).expand(-1, self.sizes.units).reshape(1, -1, 1, 1)
            d = d + torch.sign(self.h) * each
        d, of_slopes = self._through_activation(d)
        for p, gradient in zip(self.slopes, of_slopes, strict=True):
            gradients.keep(p, gradient)
        of_block = d = self._unpool(d) if self.early else d
        if self.norm is not None and self.scale is not None:
            d_RUBP = by_network(d, self.networks)
            gradients.keep(self.bias, d_RUBP.sum((2, 3)))
            d_RUBP, of_scale = self.norm.backward(d_RUBP)
            gradients.keep(self.scale, of_scale)
            d = as_image(d_RUBP, d.shape[2])
        dx, of_kernels, of_biases = self.convolution.backward(d)
        gradients.keep(self.weight, of_kernels)
        if of_biases is not None:
            gradients.keep(self.bias, of_biases)
        return dx, of_block

    def _activated(self, z: Tensor, *, in_place: bool) -> Tensor:
        """h, of which ``stats`` are given what they ask for."""
        if self.activation.any_layout:
            self.z = z
            h = self.activation.forward(z, in_place=in_place)
            if self.stats:
                self.stats[self.place].observe(self._by_unit(z), self._by_unit(h))
            return h
        z_RUN = by_network(z, self.networks).flatten(2)
        h_RUN = self.activation.forward(z_RUN)
        if self.stats:
            self.stats[self.place].observe(z_RUN, h_RUN)
        return as_image(h_RUN.unflatten(2, (len(z), -1)), z.shape[2])

    def _through_activation(self, dh: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(δ, the gradients of ``slopes``) from ∂loss/∂h."""
        if self.activation.any_layout:
            d, of_slopes = self.activation.backward(in_order_of(dh, self.z))
            if self.stats:
                self.stats[self.place].observe_delta(self._by_unit(d), len(d))
            return d, of_slopes
        d_RUN, of_slopes = self.activation.backward(by_network(dh, self.networks).flatten(2))
        if self.stats:
            self.stats[self.place].observe_delta(d_RUN, len(dh))
        return as_image(d_RUN.unflatten(2, (len(dh), -1)), dh.shape[2]), of_slopes

    def _by_unit(self, image: Tensor) -> Tensor:
        return units_of_one(image) if self.alone else by_network(image, self.networks).flatten(2)

    def _pool(self, image: Tensor) -> Tensor:
        largest, places = F.max_pool2d_with_indices(image, POOL)
        self._pooled = image, places
        return largest

    def _unpool(self, d: Tensor) -> Tensor:
        image, places = self._pooled
        return torch.ops.aten.max_pool2d_with_indices_backward(d, image, POOL, POOL, [0, 0], [1, 1], False, places)
