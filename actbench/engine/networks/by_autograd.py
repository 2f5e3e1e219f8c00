"""Networks that are given by their forward pass alone; autograd makes the backward pass.

Shapes: R = S·K networks (S seeds, K variants each), C outputs, B examples, I input values of an example, G groups of
networks that see the same batch, U units (or pre-activations) of a layer, N values of a unit (examples, and positions).
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Networks, Observer, Parameter
from actbench.engine.networks.regularise import Dropout, penalty_gradient
from actbench.plan.pack_plan import PackPlan


class AutogradNetworks(Networks):
    """Subclasses make their parameters and write ``_run``.

    Attributes:
        activations: one per hidden layer; none of models with a nonlinearity of their own.
        z, h: per hidden layer, the tensors of pre-activations and of outputs that the last forward made: one, or one per
            time step.
    """

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan)
        self.seeds = len(plan.pack.seeds)
        self.dropout = Dropout(plan.pack, data.device, data.dtype) if plan.spec.dropout else None
        self.activations: list[LayerActivation] = []
        self.z: list[list[Tensor]] = []
        self.h: list[list[Tensor]] = []

    def own(self, tensor: Tensor, role: str, layer: int, variants: slice | None = None) -> Parameter:
        """See ``Networks``; autograd follows it."""
        return super().own(tensor.requires_grad_(), role, layer, variants)

    def _make_activations(self, data: DeviceData) -> None:
        for place, layer in enumerate(self.plan.sizes.layers):
            activation = LayerActivation(self.plan.pack, place, layer.pre, data.device, data.dtype)
            for part, p in activation.slopes:
                self.own(p, "slope", place, part)
            self.activations.append(activation)

    def forward(
        self, x_GBI: Tensor, *, step: int | None = None, observer: Observer | None = None, backward: bool = True
    ) -> Tensor:
        """See ``Networks``."""
        self.z, self.h = [], []
        with torch.set_grad_enabled(backward):
            self._out = self._run(x_GBI, step)
        if observer is not None:
            for layer in range(self.depth):
                z, h = (self._by_unit([t.detach() for t in tensors[layer]]) for tensors in (self.z, self.h))
                observer.forward(layer, z, h)
        return self._out.detach()

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        """Outputs [R, C, B], with ``z`` and ``h`` filled; step is None in evaluation."""
        raise NotImplementedError

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        """One layer's tensors as [R, U, N]."""
        raise NotImplementedError

    def _leaf(self, p: Parameter) -> Tensor:
        """What the forward pass reads: the parameter's tensor, or a view of it that is a leaf itself."""
        return p.tensor

    def backward(
        self, delta_RCB: Tensor, gradients: Gradients, *, penalty_R: Tensor | None = None, observer: Observer | None = None
    ) -> None:
        """See ``Networks``."""
        leaves = [self._leaf(p) for p in self.parameters]
        watched = [t for tensors in self.z for t in tensors] if observer is not None else []
        outputs, given = [self._out], [delta_RCB]
        if penalty_R is not None:
            for h in (t for tensors in self.h for t in tensors):
                outputs.append(h)
                given.append(self._penalty(h.detach(), penalty_R))
        found = torch.autograd.grad(outputs, [*leaves, *watched], given, allow_unused=True, materialize_grads=True)
        for p, gradient in zip(self.parameters, found, strict=False):
            gradients.keep(p, gradient)
        if observer is not None:
            rest = list(found[len(leaves) :])
            for layer in reversed(range(self.depth)):
                count = len(self.z[layer])
                rest, mine = rest[:-count], rest[-count:]
                observer.backward(layer, self._by_unit(mine), delta_RCB.shape[2])

    def _penalty(self, h: Tensor, strength_R: Tensor) -> Tensor:
        return penalty_gradient(h, strength_R)
