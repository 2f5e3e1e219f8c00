"""Networks that are given by their forward pass alone; autograd makes the backward pass.

Shapes: R = S·K networks (S seeds, K variants each), C outputs, B examples, I input values of an example, G groups of
networks that see the same batch, U units (or pre-activations) of a layer, N values of a unit (examples, and positions).
"""

from __future__ import annotations

import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.protocol import Gradients, Networks, Parameter
from actbench.engine.networks.regularise import penalty_gradient
from actbench.plan.pack_plan import PackPlan
from actbench.science.layer_stats import LayerStats


class AutogradNetworks(Networks):
    """Subclasses make the parameters of their hidden layers, then those of ``_make_output``, and write ``_run``.

    Attributes:
        leaves: what the forward pass reads of each parameter.
        z, h: per hidden layer, the tensors of pre-activations and of outputs that the last forward made: one, or one per
            time step.
    """

    def __init__(self, plan: PackPlan, data: DeviceData) -> None:
        super().__init__(plan, data)
        self.leaves: list[Tensor] = []

    def _make_output(self, weights: Tensor, biases: Tensor, data: DeviceData) -> None:
        """The output layer; then what activations of hidden layers train."""
        self.last = self.own(weights, "weight", self.depth).tensor
        self.last_bias = self.own(biases, "bias", self.depth).tensor
        for place, layer in enumerate(self.plan.sizes.layers):
            activation = LayerActivation(self.plan.pack, place, layer.pre, data.device, data.dtype)
            for part, p in activation.slopes:
                self.own(p, "slope", place, part)
            self.activations.append(activation)

    def own(self, tensor: Tensor, role: str, layer: int, variants: slice | None = None, shape: tuple = ()) -> Parameter:
        """See ``Networks``. Autograd follows the tensor, or a view of it in a shape that spares the forward pass a copy."""
        self.leaves.append((tensor.detach().view(shape) if shape else tensor).requires_grad_())
        return super().own(tensor, role, layer, variants)

    def forward(self, x_GBI: Tensor, step: int | None = None, stats: list[LayerStats] | None = None) -> Tensor:
        """See ``Networks``."""
        self.z: list[list[Tensor]] = []
        self.h: list[list[Tensor]] = []
        self._stats = stats
        with torch.set_grad_enabled(step is not None or stats is not None):
            self._out = self._run(x_GBI, step)
        if stats is not None:
            for of_layer, z, h in zip(stats, self.z, self.h, strict=True):
                of_layer.observe(*(self._by_unit([t.detach() for t in tensors]) for tensors in (z, h)))
        return self._out.detach()

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        """Outputs [R, C, B], with ``z`` and ``h`` filled; step is None in evaluation."""
        raise NotImplementedError

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        """One layer's tensors as [R, U, N]."""
        raise NotImplementedError

    def backward(self, delta_RCB: Tensor, gradients: Gradients, penalty_R: Tensor | None = None) -> None:
        """See ``Networks``."""
        watched = [t for tensors in self.z for t in tensors] if self._stats is not None else []
        outputs, given = [self._out], [delta_RCB]
        if penalty_R is not None:
            outputs += [h for tensors in self.h for h in tensors]
            given += [self._penalty(h.detach(), penalty_R) for h in outputs[1:]]
        found = list(torch.autograd.grad(outputs, [*self.leaves, *watched], given, allow_unused=True, materialize_grads=True))
        for p, gradient in zip(self.parameters, found, strict=False):
            gradients.keep(p, gradient)
        for of_layer, tensors in zip(reversed(self._stats or []), reversed(self.z), strict=False):
            mine = [found.pop() for _ in tensors][::-1]
            of_layer.observe_delta(self._by_unit(mine), delta_RCB.shape[2])

    def _penalty(self, h: Tensor, strength_R: Tensor) -> Tensor:
        return penalty_gradient(h, strength_R)
