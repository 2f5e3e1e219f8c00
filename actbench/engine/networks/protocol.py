"""What the trainer asks of stacked networks, whatever their model.

Shapes: R = S·K networks (S seeds, K variants each), C outputs, B examples, I input values of an example, G groups of networks
that see the same batch: G = S in training, 1 in evaluation, where every network sees the same examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.aligned import multiply, new_aligned
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.regularise import Dropout
from actbench.plan.pack_plan import PackPlan
from actbench.science.layer_stats import LayerStats


@dataclass(frozen=True, eq=False)
class Parameter:
    """One trained tensor of all networks."""

    tensor: Tensor  # [R, …]; of a slice of variants [S, k, …]
    role: str  # what it is: weight, bias, scale (of a normalisation) or slope (of an activation)
    layer: int  # which layer it belongs to, from 0; the output layer's is the last
    variants: slice | None = None  # which of the K variants have it; None: all


class Gradients:
    """Where a backward pass leaves the gradients of parameters.

    Attributes:
        into: a tensor for each parameter: in place the parameter itself (a step of plain SGD, if δ has been multiplied by
            −lr), else memory of its own.
        add: whether gradients are added to what is there, or overwrite it.
    """

    def __init__(self, parameters: Iterable[Parameter], *, in_place: bool) -> None:
        self.into = {p: p.tensor if in_place else new_aligned(p.tensor, p.tensor.shape) for p in parameters}
        self.add = in_place

    def keep(self, p: Parameter, gradient: Tensor) -> None:
        """Takes a gradient in the parameter's shape, or another shape of as many values."""
        target = self.into[p]
        gradient = gradient.reshape(target.shape)
        if self.add:
            target.add_(gradient)
        else:
            target.copy_(gradient)

    def keep_product(self, p: Parameter, left: Tensor, right: Tensor, *, shared: bool = False) -> None:
        """Takes left @ right as a gradient: [R, rows, columns], or [G, all rows of a group, columns]; see ``multiply``."""
        target = self.into[p]
        if len(left) < len(target):
            if not target.is_contiguous():
                return self.keep(p, torch.bmm(left, right))
            target = target.view(len(left), -1, right.shape[2])
        multiply(left, right, target, add=self.add, shared=shared)


class Networks:
    """R stacked networks.

    Attributes:
        plan: their pack and sizes.
        parameters: every trained tensor.
        activations: one per hidden layer.
        scratch: memory that is used again from step to step, by name.
        unmoved_R11: [R, 1, 1], the L2 norm of the first layer's weights that no training moves, or None.
    """

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        self.plan, self.depth = plan, len(plan.sizes.layers)
        self.networks, self.seeds = len(plan.pack), len(plan.pack.seeds)
        self.dropout = Dropout(plan.pack, data.device, data.dtype) if plan.spec.dropout else None
        self.parameters: list[Parameter] = []
        self.activations: list[LayerActivation] = []
        self.scratch: dict[str, Tensor] = {}
        self.unmoved_R11: Tensor | None = None

    def own(self, tensor: Tensor, role: str, layer: int, variants: slice | None = None) -> Parameter:
        """Makes a tensor a parameter."""
        self.parameters.append(Parameter(tensor, role, layer, variants))
        return self.parameters[-1]

    def weights(self, layer: int) -> list[Parameter]:
        """The weights of a layer."""
        return [p for p in self.parameters if p.role == "weight" and p.layer == layer]

    @contextlib.contextmanager
    def in_evaluation(self) -> Iterator[None]:
        """Within it, networks are measured: no state that users' activations keep is changed."""
        with contextlib.ExitStack() as stack:
            for users in (one for activation in self.activations for one in activation.users):
                stack.enter_context(users.in_evaluation())
            yield

    def forward(self, x_GBI: Tensor, step: int | None = None, stats: list[LayerStats] | None = None) -> Tensor:
        """Outputs [R, C, B]. The batch of a group is shared by its R/G networks.

        Args:
            step: which training step this is; None in evaluation, where nothing is dropped.
            stats: is given z and h of every hidden layer.
        """
        raise NotImplementedError

    def backward(self, delta_RCB: Tensor, gradients: Gradients, penalty_R: Tensor | None = None) -> None:
        """Gradients, summed over examples, of the last forward pass, which was a training step or had ``stats``.

        Args:
            delta_RCB: δ of its outputs, whose memory it may take.
            gradients: where they go; δ of every hidden layer, last first, goes into the ``stats`` of the forward pass.
            penalty_R: adds the gradient of this times the sum of abs h of the hidden layers.
        """
        raise NotImplementedError
