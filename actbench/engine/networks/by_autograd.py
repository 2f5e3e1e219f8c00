"""What the trainer asks of networks of any model, and networks whose backward pass autograd makes.

Shapes: R = S·K networks (S seeds, K variants each), C outputs, B examples, I input values of an example, G groups of
networks that see the same batch (S in training, 1 in evaluation), U units (or pre-activations) of a layer, P positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from actbench.plan.architecture import Architecture
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.networks.regularise import Dropout, penalty_gradient
from actbench.study.spec import Pack

class GraphNetworks:
    """Networks that are told by their forward pass alone. Subclasses name their parameters and write ``_run``.

    Attributes:
        sizes: the sizes of its layers.
        z, h: per hidden layer, the tensors of pre-activations and of outputs that the last forward made: one, or one per
            time step.
    """

    def __init__(self, pack: Pack, sizes: Architecture, device: Any, dtype: torch.dtype) -> None:
        self.pack, self.sizes, self.depth = pack, sizes, len(sizes.layers)
        self.networks = len(pack)
        self.scratch: dict[str, Tensor] = {}
        self.dropout = Dropout(pack, device, dtype) if pack.shared.dropout else None
        self.activations: list[LayerActivation] = []
        self.z: list[list[Tensor]] = []
        self.h: list[list[Tensor]] = []
        self._dense: list[Tensor] = []
        self._weights: list[list[int]] = []  # per layer, the output layer last: places of its weights among the parameters

    def _own(self, tensor: Tensor, weight_of: int | None = None) -> Tensor:
        """Makes a tensor [R, …] a parameter, and the weights of a layer, if it is."""
        if weight_of is not None:
            while len(self._weights) <= weight_of:
                self._weights.append([])
            self._weights[weight_of].append(len(self._dense))
        self._dense.append(tensor.requires_grad_())
        return tensor

    def parameters(self) -> list[Parameter]:
        """Every trained tensor with the variants it belongs to: None for all, as [R, …]; a slice of K, as [S, k, …]."""
        own: list[Parameter] = [(p, None) for p in self._dense]
        return own + [(p.requires_grad_(), part) for activation in self.activations for part, p in activation.parameters]

    def weights_of(self, layer: int, tensors: list[Tensor]) -> list[Tensor]:
        """Of tensors in the order of ``parameters``, those that belong to the weights of a layer."""
        return [tensors[place] for place in self._weights[layer]]

    def all_weights(self, tensors: list[Tensor]) -> list[Tensor]:
        """Of tensors in the order of ``parameters``, those that are weights, of any layer."""
        return [tensors[place] for places in self._weights for place in places]

    def forward(self, x_GBI: Tensor, seen: SeenForward | None = None, *, step: int | None = None, graph: bool = True) -> Tensor:
        """Outputs [R, C, B]; see ``StackedMLP.forward``. Without ``graph``, no backward pass can follow."""
        self.z, self.h = [], []
        with torch.set_grad_enabled(graph):
            self._out = self._run(x_GBI, step)
        if seen is not None:
            for layer in range(self.depth):
                z, h = (self._by_unit([t.detach() for t in tensors[layer]]) for tensors in (self.z, self.h))
                seen(layer, z, h, x_GBI.shape[1])
        return self._out.detach()

    def _run(self, x_GBI: Tensor, step: int | None) -> Tensor:
        """Outputs [R, C, B], with ``z`` and ``h`` filled; step is None in evaluation."""
        raise NotImplementedError

    def _by_unit(self, tensors: list[Tensor]) -> Tensor:
        """One layer's tensors as [R, U, N], N over examples and positions."""
        raise NotImplementedError

    def backward(
        self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], *, add: bool, penalty_R: Tensor | None = None
    ) -> None:
        """See ``StackedMLP.backward``."""
        gradients = self._gradients(self._leaves(), delta_RCB, penalty_R)
        self._keep(gradients, into, add)

    def observe(self, x_GBI: Tensor, delta_RCB: Tensor, into: list[Tensor], seen: SeenBackward, *, add: bool) -> None:
        """See ``StackedMLP.observe``."""
        own = self._leaves()
        flat = [t for tensors in self.z for t in tensors]
        gradients = self._gradients([*own, *flat], delta_RCB, None)
        self._keep(gradients[: len(own)], into, add)
        rest = gradients[len(own) :]
        for layer in reversed(range(self.depth)):
            count = len(self.z[layer])
            rest, mine = rest[:-count], rest[-count:]
            seen(layer, self._by_unit(list(mine)), x_GBI.shape[1])

    def _leaves(self) -> list[Tensor]:
        """What the forward pass reads, in the order of ``parameters``: these, or views of them that are leaves themselves."""
        return [p for p, _ in self.parameters()]

    def _gradients(self, of: list[Tensor], delta_RCB: Tensor, penalty_R: Tensor | None) -> tuple[Tensor, ...]:
        outputs, given = [self._out], [delta_RCB]
        if penalty_R is not None:
            for h in (t for tensors in self.h for t in tensors):
                outputs.append(h)
                given.append(self._penalty(h.detach(), penalty_R))
        return torch.autograd.grad(outputs, of, given, allow_unused=True, materialize_grads=True)

    def _penalty(self, h: Tensor, strength_R: Tensor) -> Tensor:
        return penalty_gradient(h, strength_R)

    @staticmethod
    def _keep(gradients: tuple[Tensor, ...], into: list[Tensor], add: bool) -> None:
        targets = [target.view(gradient.shape) for target, gradient in zip(into, gradients, strict=True)]
        (torch._foreach_add_ if add else torch._foreach_copy_)(targets, gradients)
