"""The optimizer of stacked networks: every network with its own rate, momentum and penalties.

Shapes: R = S·K networks; settings of networks are [R, 1, 1], or [S, k, 1, …] for a slice of k variants.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from actbench.engine.networks.protocol import Gradients, Networks, Parameter
from actbench.plan.pack_plan import PackPlan
from actbench.science.optimizers import OPTIMIZERS

CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class StackedOptimizer:
    """Turns δ of the outputs into an update of every parameter.

    Plain SGD is one backward pass: δ is multiplied by −lr, and gradients, which are linear in it, are added to the
    parameters with nothing in between. Other rules get gradients of their own.
    """

    def __init__(self, plan: PackPlan, networks: Networks, dtype: torch.dtype, device: str) -> None:
        self._plan, self._networks, self._dtype, self._device = plan, networks, dtype, device
        self._lr = self._per_network("lr")
        self._momentum, self._weight_decay = self._if_any("momentum"), self._if_any("weight_decay")
        self._weight_l1, self._activation_l1 = self._if_any("weight_l1"), self._if_any("activation_l1")
        self._grad_clip = self._if_any("grad_clip")
        parameters = networks.parameters
        self._gradients = Gradients(parameters, in_place=plan.plain_sgd)
        self._states: dict[Parameter, dict[str, Tensor]] = {p: {} for p in parameters}
        self._rule = OPTIMIZERS[plan.spec.optimizer]

    def _if_any(self, setting: str) -> Tensor | None:
        return self._per_network(setting) if getattr(self._plan.spec, setting) else None

    def _per_network(self, setting: str) -> Tensor:
        values = [getattr(spec, setting) for spec in self._plan.pack.specs]
        return torch.tensor(values, device=self._device, dtype=self._dtype).view(-1, 1, 1)

    def update(self, delta_RCB: Tensor, factor: float | Tensor, t: int | Tensor) -> None:
        """Updates every parameter from the last forward pass.

        Args:
            delta_RCB: ∂loss_i/∂output of it, whose memory is overwritten.
            factor: what the learning rate is multiplied by.
            t: which step this is, from 1.
        """
        lr, share = self._lr * factor, 1 / delta_RCB.shape[2]
        scale = lr * -share if self._plan.plain_sgd else share
        penalty = None if self._activation_l1 is None else self._activation_l1 * scale
        self._networks.backward(delta_RCB.mul_(scale), self._gradients, penalty)
        if self._plan.plain_sgd:
            return
        if self._weight_l1 is not None:
            for p, gradient in self._gradients.into.items():
                if p.role == "weight":
                    gradient.addcmul_(torch.sign(p.tensor), self._weight_l1)
        if self._grad_clip is not None:
            self._clip(self._grad_clip)
        nesterov = bool(self._plan.spec.nesterov)
        for p, gradient in self._gradients.into.items():
            rate, momentum, decay = (self._shaped(setting, p) for setting in (lr, self._momentum, self._weight_decay))
            if decay is not None and self._rule.shrinks:
                p.tensor.mul_(1 - rate * decay)
            elif decay is not None:
                gradient.addcmul_(p.tensor, decay)
            self._rule.step(p.tensor, gradient, self._states[p], t, rate, momentum, nesterov)

    def _clip(self, largest_R11: Tensor) -> None:
        """Scales each network's gradients so that their common L2 norm is at most its ``grad_clip``."""
        seeds, variants = len(self._plan.pack.seeds), len(self._plan.pack.variants)
        square_SK = torch.zeros(seeds, variants, dtype=self._dtype, device=self._device)
        for p, gradient in self._gradients.into.items():
            by_variant = gradient if p.variants is not None else gradient.view(seeds, variants, *gradient.shape[1:])
            square_SK[:, p.variants or slice(None)] += by_variant.flatten(2).square().sum(2)
        factor_R11 = (largest_R11 / (square_SK.sqrt().view(-1, 1, 1) + CLIP_EPS)).clamp_max(1)
        for p, gradient in self._gradients.into.items():
            gradient.mul_(self._shaped(factor_R11, p))

    def _shaped(self, setting_R11: Tensor | None, p: Parameter) -> Any:
        """A setting of networks in a shape that fits a parameter."""
        if setting_R11 is None or p.variants is None:
            return setting_R11
        setting_SK = setting_R11.view(len(self._plan.pack.seeds), -1)[:, p.variants]
        return setting_SK.reshape(*setting_SK.shape, *[1] * (p.tensor.ndim - 2))
