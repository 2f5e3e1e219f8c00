"""One fully connected layer of all networks, with its forward and its written backward pass.

Shapes: R = S·K networks, O pre-activations, I inputs, B examples, G groups of networks that see the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actbench.engine.networks.aligned import Buffers, aligned, multiply
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Parameter
from actbench.engine.networks.regularise import Dropout, Norm, penalty_gradient
from actbench.science.layer_stats import LayerStats


@dataclass
class DenseLayer:
    """z = W·x + b, perhaps normalised; h = φ(z), perhaps with some of it dropped. The output layer has no φ: it gives z.

    Attributes:
        h: the outputs, before any are dropped, of the last forward pass.
    """

    place: int  # which layer it is, from 0
    weight: Parameter  # [R, O, I]
    bias: Parameter  # [R, O, 1]; where there is a norm, its shift
    buffers: Buffers  # memory that all layers share
    rounded: Callable[[Tensor], Tensor] | None = None  # what rounds the factors of products
    joint: bool = False  # whether it multiplies all networks of a group as one matrix: the first layer, which read one batch
    activation: LayerActivation | None = None
    slopes: list[Parameter] = field(default_factory=list)  # trained parameters of φ
    norm: Norm | None = None
    scale: Parameter | None = None  # the factor of the normalisation
    dropout: Dropout | None = None

    def forward(self, x: Tensor, step: int | None, stats: list[LayerStats] | None) -> Tensor:
        """What the next layer reads, or the outputs, [R, O, B].

        Args:
            x: what this layer reads: [R, I, B], of the first layer [G, I, B].
            step: which training step this is, if it is one.
            stats: is given z and h, and δ by the backward pass.
        """
        self.stats = stats
        self.x = aligned(self._factor(x.mT)).mT if self.joint else aligned(self._factor(x))
        z = self._product()
        if self.norm is not None:
            z = aligned(self.norm.forward(z.contiguous().unsqueeze(-1), training=step is not None).squeeze(-1))
        z.add_(self.bias.tensor)
        if self.activation is None:
            return z
        self.h = h = self.activation.forward(z, in_place=step is not None)
        if stats is not None:
            stats[self.place].observe(z, h)  # while it is in the cache
        self.mask = None
        if self.dropout is not None and step is not None:
            self.mask = self.dropout.mask(step, self.place, (h.shape[1], h.shape[2]))
            h = h * self.mask
        return h

    def backward(self, d: Tensor, gradients: Gradients, penalty_R: Tensor | None) -> Tensor:
        """∂loss/∂x (but for the first layer) from ∂loss/∂(what ``forward`` gave), whose memory it may take.

        Gradients are summed over examples.
        """
        if self.activation is not None:
            if self.mask is not None:
                d.mul_(self.mask)
            if penalty_R is not None:
                d.add_(penalty_gradient(self.h, penalty_R))
            d, of_slopes = self.activation.backward(d)
            for p, gradient in zip(self.slopes, of_slopes, strict=True):
                gradients.keep(p, gradient)
            if self.stats is not None:
                self.stats[self.place].observe_delta(d, d.shape[2])
        gradients.keep(self.bias, d.sum(-1, keepdim=True))
        if self.norm is not None and self.scale is not None:
            d, of_scale = self.norm.backward(d.contiguous().unsqueeze(-1))
            d = d.squeeze(-1)
            gradients.keep(self.scale, of_scale)
        dx = d = aligned(self._factor(d))
        if self.place:  # before the weights change
            w_ROI = self._factor(self.weight.tensor)
            dx = self.buffers.get(f"passing{self.place % 2}", (len(w_ROI), w_ROI.shape[2], d.shape[2]), w_ROI)
            torch.bmm(w_ROI.mT, d, out=dx)
        if self.joint:
            gradients.keep_product(self.weight, d.reshape(len(self.x), -1, d.shape[2]), self.x.mT)
        else:
            gradients.keep_product(self.weight, d, self.x.mT, shared=not self.place)
        return dx

    def _factor(self, t: Tensor) -> Tensor:
        return t if self.rounded is None else aligned(self.rounded(t))

    def _product(self) -> Tensor:
        w_ROI, (groups, _, batch) = self._factor(self.weight.tensor), self.x.shape
        # fewer bytes are faster, so a z that no derivative reads later is overwritten by the next layer
        kept = self.activation is None or self.activation.in_place or self.activation.keeps_z
        z = self.buffers.get(f"z{self.place}" if kept else "passing0", (len(w_ROI), w_ROI.shape[1], batch), w_ROI)
        if not self.joint:
            multiply(w_ROI, self.x, z, shared=not self.place)
            return z
        together = w_ROI.reshape(groups, -1, w_ROI.shape[2])
        if not z.is_contiguous():
            return z.copy_(torch.bmm(together, self.x).view(z.shape))
        torch.bmm(together, self.x, out=z.view(groups, -1, batch))
        return z
