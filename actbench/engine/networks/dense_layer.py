"""One fully connected layer of all networks, with its forward and its written backward pass.

Shapes: R = S·K networks, O pre-activations, I inputs, B examples, G groups of networks that see the same batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actbench.engine.networks.aligned import Buffers, aligned
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Observer, Parameter
from actbench.engine.networks.regularise import Dropout, Norm, penalty_gradient


@dataclass
class DenseLayer:
    """z = W·x + b, perhaps normalised; h = φ(z), perhaps with some of it dropped. The output layer has no φ: it gives z.

    Attributes:
        place: which layer it is, from 0.
        weight, bias: [R, O, I] and [R, O, 1]; where there is a norm, the bias is its shift.
        buffers: memory that all layers share.
        rounded: what rounds the factors of products, if anything.
        activation, slopes: φ and its trained parameters.
        norm, scale: the normalisation and its factor.
        dropout: what drops outputs in training.
        h: the outputs, before any are dropped, of the last forward pass.
    """

    place: int
    weight: Parameter
    bias: Parameter
    buffers: Buffers
    rounded: Callable[[Tensor], Tensor] | None = None
    activation: LayerActivation | None = None
    slopes: list[Parameter] = field(default_factory=list)
    norm: Norm | None = None
    scale: Parameter | None = None
    dropout: Dropout | None = None

    def forward(self, x: Tensor, mode: str, step: int | None, observer: Observer | None) -> Tensor:
        """What the next layer reads, or the outputs, [R, O, B].

        Args:
            x: what this layer reads: [R, I, B], of the first layer [G, B, I].
            mode: ``train``, ``eval``, or ``start`` (running statistics begin here).
            step: which training step this is, if it is one.
            observer: is given z and h.
        """
        self.x = aligned(x if self.rounded is None else self.rounded(x))
        z = self._product()
        if self.norm is not None:
            z = aligned(self.norm.forward(z.contiguous().unsqueeze(-1), mode).squeeze(-1))
        z.add_(self.bias.tensor)
        if self.activation is None:
            return z
        self.h = h = self.activation.forward(z, in_place=mode == "train")
        if observer is not None:
            observer.forward(self.place, z, h)  # while it is in the cache
        self.mask = None
        if self.dropout is not None and step is not None:
            self.mask = self.dropout.mask(step, self.place, (h.shape[1], h.shape[2]))
            h = h * self.mask
        return h

    def backward(self, d: Tensor, gradients: Gradients, penalty_R: Tensor | None, observer: Observer | None) -> Tensor:
        """∂loss/∂x from ∂loss/∂(what ``forward`` gave), whose memory it may take; gradients are summed over examples."""
        if self.activation is not None:
            if self.mask is not None:
                d.mul_(self.mask)
            if penalty_R is not None:
                d.add_(penalty_gradient(self.h, penalty_R))
            d, of_slopes = self.activation.backward(d)
            for p, gradient in zip(self.slopes, of_slopes, strict=True):
                gradients.keep(p, gradient)
            if observer is not None:
                observer.backward(self.place, d, d.shape[2])
        gradients.keep(self.bias, d.sum(-1, keepdim=True))
        if self.norm is not None and self.scale is not None:
            d, of_scale = self.norm.backward(d.contiguous().unsqueeze(-1))
            d = d.squeeze(-1)
            gradients.keep(self.scale, of_scale)
        d = aligned(d if self.rounded is None else self.rounded(d))
        dx = self._input_gradient(d)  # before the weights change
        self._keep_weight_gradient(d, gradients)
        return dx

    def _product(self) -> Tensor:
        w_ROI = self._factor()
        z = self._memory(w_ROI, self.x.shape[2])
        return torch.bmm(w_ROI, self.x, out=z)

    def _input_gradient(self, d_ROB: Tensor) -> Tensor:
        w_ROI = self._factor()
        dx = self.buffers.get(f"passing{self.place % 2}", (len(w_ROI), w_ROI.shape[2], d_ROB.shape[2]), w_ROI)
        return torch.bmm(w_ROI.transpose(1, 2), d_ROB, out=dx)

    def _keep_weight_gradient(self, d_ROB: Tensor, gradients: Gradients) -> None:
        gradients.keep_product(self.weight, d_ROB, self.x.transpose(1, 2))

    def _factor(self) -> Tensor:
        return self.weight.tensor if self.rounded is None else aligned(self.rounded(self.weight.tensor))

    def _memory(self, w_ROI: Tensor, batch: int) -> Tensor:
        """For z: fewer bytes are faster, so what no derivative reads later is overwritten by the next layer."""
        kept = self.activation is None or self.activation.in_place or self.activation.keeps_z
        return self.buffers.get(f"z{self.place}" if kept else "passing0", (len(w_ROI), w_ROI.shape[1], batch), w_ROI)


@dataclass
class SharedInputLayer(DenseLayer):
    """The first layer of all networks of a group, as one product with the batch that they share. x is [G, B, I]."""

    def _product(self) -> Tensor:
        w_ROI, x_GIB = self._factor(), self.x.transpose(1, 2)
        z = self._memory(w_ROI, x_GIB.shape[2])
        together = w_ROI.reshape(len(x_GIB), -1, w_ROI.shape[2])
        if z.is_contiguous():
            torch.bmm(together, x_GIB, out=z.view(len(x_GIB), -1, x_GIB.shape[2]))
            return z
        return z.copy_(torch.bmm(together, x_GIB).view(z.shape))

    def _input_gradient(self, d_ROB: Tensor) -> Tensor:
        return d_ROB  # nobody asks for it

    def _keep_weight_gradient(self, d_ROB: Tensor, gradients: Gradients) -> None:
        gradients.keep_product(self.weight, d_ROB.reshape(len(self.x), -1, d_ROB.shape[2]), self.x)


@dataclass
class OwnInputLayer(DenseLayer):
    """The first layer where each network is multiplied by itself: rows that fill no whole vector round by their company."""

    def forward(self, x: Tensor, mode: str, step: int | None, observer: Observer | None) -> Tensor:
        """See ``DenseLayer``."""
        return super().forward(x.transpose(1, 2), mode, step, observer)

    def _product(self) -> Tensor:
        w_ROI, groups = self._factor(), len(self.x)
        z_ROB = self._memory(w_ROI, self.x.shape[2])
        for w_KOI, x_IB, z_KOB in zip(w_ROI.chunk(groups), self.x, z_ROB.chunk(groups), strict=True):
            torch.bmm(w_KOI, x_IB.expand(len(w_KOI), -1, -1), out=z_KOB)
        return z_ROB

    def _input_gradient(self, d_ROB: Tensor) -> Tensor:
        return d_ROB  # nobody asks for it

    def _keep_weight_gradient(self, d_ROB: Tensor, gradients: Gradients) -> None:
        groups = len(self.x)
        for into_KOI, d_KOB, x_IB in zip(gradients.into[self.weight].chunk(groups), d_ROB.chunk(groups), self.x, strict=True):
            x_KBI = x_IB.T.expand(len(d_KOB), -1, -1)
            if gradients.add:
                into_KOI.baddbmm_(d_KOB, x_KBI)
            else:
                torch.bmm(d_KOB, x_KBI, out=into_KOI)
