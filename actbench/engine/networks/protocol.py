"""What the trainer asks of stacked networks, whatever their model.

Shapes: R = S·K networks (S seeds, K variants each), C outputs, B examples, I input values of an example, U units (or
pre-activations) of a layer, N values of a unit (examples, and positions), G groups of networks that see the same batch: G = S
in training, 1 in evaluation, where every network sees the same examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from actbench.engine.networks.aligned import new_aligned
from actbench.plan.pack_plan import PackPlan


@dataclass(frozen=True, eq=False)
class Parameter:
    """One trained tensor of all networks.

    Attributes:
        tensor: [R, …]; of a slice of variants [S, k, …].
        role: what it is: ``weight``, ``bias``, ``scale`` (of a normalisation) or ``slope`` (of an activation).
        layer: which layer it belongs to, from 0; the output layer's is the last.
        variants: which of the K variants have it; None: all.
    """

    tensor: Tensor
    role: str
    layer: int
    variants: slice | None = None


class Gradients:
    """Where a backward pass leaves the gradients of parameters.

    Args:
        into: a tensor for each parameter.
        add: whether gradients are added to what is there.
    """

    def __init__(self, into: dict[Parameter, Tensor], *, add: bool) -> None:
        self.into, self.add = into, add

    @classmethod
    def fresh(cls, parameters: Iterable[Parameter]) -> Gradients:
        """Memory of their own, to be overwritten."""
        return cls({p: new_aligned(p.tensor, tuple(p.tensor.shape)) for p in parameters}, add=False)

    @classmethod
    def added_to(cls, parameters: Iterable[Parameter]) -> Gradients:
        """The parameters themselves: a step of plain SGD, if δ has been multiplied by −lr."""
        return cls({p: p.tensor for p in parameters}, add=True)

    def keep(self, p: Parameter, gradient: Tensor) -> None:
        """Takes a gradient in the parameter's shape, or another shape of as many values."""
        target = self.into[p]
        gradient = gradient.reshape(target.shape)
        if self.add:
            target.add_(gradient)
        else:
            target.copy_(gradient)

    def keep_product(self, p: Parameter, left: Tensor, right: Tensor) -> None:
        """Takes left @ right, [G, rows, columns], as a gradient."""
        target = self.into[p]
        if len(left) < len(target):
            if not target.is_contiguous():
                return self.keep(p, torch.bmm(left, right))
            target = target.view(len(left), -1, right.shape[2])
        if self.add:
            target.baddbmm_(left, right)
        else:
            torch.bmm(left, right, out=target)


class Observer(Protocol):
    """Takes in what passes through hidden layers while it is measured."""

    def forward(self, layer: int, z_RUN: Tensor, h_RUN: Tensor) -> None:
        """Pre-activations and outputs of a hidden layer."""
        ...

    def backward(self, layer: int, delta_RUN: Tensor, examples: int) -> None:
        """∂loss_i/∂z of a hidden layer, over so many examples."""
        ...


class Networks:
    """R stacked networks.

    Attributes:
        plan: their pack and sizes.
        parameters: every trained tensor.
        scratch: memory that is used again from step to step, by name.
        unmoved_R11: [R, 1, 1], the L2 norm of the first layer's weights that no training moves, or None.
    """

    def __init__(self, plan: PackPlan) -> None:
        self.plan, self.depth, self.networks = plan, len(plan.sizes.layers), len(plan.pack)
        self.parameters: list[Parameter] = []
        self.scratch: dict[str, Tensor] = {}
        self.unmoved_R11: Tensor | None = None

    def own(self, tensor: Tensor, role: str, layer: int, variants: slice | None = None) -> Parameter:
        """Makes a tensor a parameter."""
        self.parameters.append(Parameter(tensor, role, layer, variants))
        return self.parameters[-1]

    def weights(self, layer: int) -> list[Parameter]:
        """The weights of a layer."""
        return [p for p in self.parameters if p.role == "weight" and p.layer == layer]

    def forward(
        self, x_GBI: Tensor, *, step: int | None = None, observer: Observer | None = None, backward: bool = True
    ) -> Tensor:
        """Outputs [R, C, B]. The batch of a group is shared by its R/G networks.

        Args:
            step: which training step this is; None in evaluation, where nothing is dropped.
            observer: is given z and h of every hidden layer.
            backward: whether a backward pass will follow.
        """
        raise NotImplementedError

    def backward(
        self, delta_RCB: Tensor, gradients: Gradients, *, penalty_R: Tensor | None = None, observer: Observer | None = None
    ) -> None:
        """Gradients, summed over examples, of the last forward pass, from δ of its outputs, whose memory it may take.

        Args:
            gradients: where they go.
            penalty_R: adds the gradient of this times the sum of abs h of the hidden layers.
            observer: is given δ of every hidden layer, last first.
        """
        raise NotImplementedError
