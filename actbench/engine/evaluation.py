"""Measuring a pack: every metric of every network, on the probe set and the test split.

Shapes: R networks, B examples, L hidden layers, U units, I input values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.networks import make_networks
from actbench.engine.networks.protocol import Gradients, Networks
from actbench.engine.user_activations import make_user_activation
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import PackPlan
from actbench.science.activations import ACTIVATIONS, is_dotted
from actbench.science.layer_stats import LayerStats, l2_norms
from actbench.science.losses import Loss
from actbench.science.metrics import layer_values, network_values

VECTOR = 16  # float32 values


@dataclass
class Evaluation:
    """What was measured once: epoch (part of one, between), step and, per column, an array [R] (``network``) or [R, L]
    (``layers``)."""

    epoch: float
    step: int
    network: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]

    def at(self, places: list[int]) -> Evaluation:
        """The same for the networks at these places, in this order."""
        network = {name: values[places] for name, values in self.network.items()}
        return Evaluation(self.epoch, self.step, network, {name: values[places] for name, values in self.layers.items()})


class _Statistics:
    """Gathers what the metrics are computed from, layer by layer, while chunks of the probe set pass."""

    def __init__(self, layers: list[LayerStats]) -> None:
        self.layers = layers

    def forward(self, layer: int, z_RUN: Tensor, h_RUN: Tensor) -> None:
        """See ``Observer``."""
        self.layers[layer].observe(z_RUN, h_RUN)

    def backward(self, layer: int, delta_RUN: Tensor, examples: int) -> None:
        """See ``Observer``."""
        self.layers[layer].observe_delta(delta_RUN, examples)


class Evaluator:
    """Measures the networks of a pack, again and again while they train.

    Attributes:
        born_dead: per layer, which units were dead at initialisation, [R, U]; None before that was measured.
    """

    def __init__(self, plan: PackPlan, data: DeviceData, networks: Networks, loss: Loss) -> None:
        self.plan, self.data, self.networks, self.loss = plan, data, networks, loss
        self.depth = len(plan.sizes.layers)
        self.asymptotes = asymptotes_of(plan.pack, data.device)
        self.born_dead: list[Tensor | None] = [None] * self.depth
        self.before_update: list[list[Tensor]] = []

    def keep_weights(self) -> None:
        """Remembers the weights as they are, so that the next evaluation can tell how much the last update changed."""
        self.before_update = [[p.tensor.clone() for p in self.networks.weights(layer)] for layer in range(self.depth)]

    def evaluate(self, epoch: float, step: int) -> tuple[Evaluation, Tensor]:
        """Measures every network on the probe set and the test split, in evaluation mode.

        Returns:
            What was measured, and which networks were finite, [R].
        """
        probe_loss, probe_right, layers = self._measure_probe()
        test_loss, test_right = self._measure_test()
        network = {
            "train_loss": probe_loss,
            "train_accuracy": probe_right,
            "test_loss": test_loss,
            "test_accuracy": test_right,
            **network_values(layers),
            "code_sparsity": self._code_sparsity(layers, probe_loss),
        }
        finite = probe_loss.isfinite() & test_loss.isfinite()
        for stats in layers:
            finite &= (stats.h.square_R + stats.z.square_R).isfinite()
        if step == 0:
            self.born_dead = [stats.dead_RU for stats in layers]
        per_layer = [layer_values(stats) for stats in layers]
        columns = {name: torch.stack([values[name] for values in per_layer], 1) for name in per_layer[0]}
        hide = ~finite  # a network that is not finite has no metrics
        measured = Evaluation(
            epoch,
            step,
            {name: value.masked_fill(hide, torch.nan).cpu().numpy() for name, value in network.items()},
            {name: value.masked_fill(hide.unsqueeze(1), torch.nan).cpu().numpy() for name, value in columns.items()},
        )
        return measured, finite

    def _code_sparsity(self, layers: list[LayerStats], like: Tensor) -> Tensor:
        if not self.loss.reconstructs:
            return torch.full_like(like, torch.nan)
        code = layers[len(layers) // 2]
        return (code.zeros_RU / code.examples).mean(1, dtype=torch.float64)

    def _measure_probe(self) -> tuple[Tensor, Tensor, list[LayerStats]]:
        networks, x, y = self.networks, self.data.probe_x, self.data.probe_y
        observer = _Statistics([LayerStats(self.asymptotes, born) for born in self.born_dead])
        gradients = Gradients.fresh(networks.parameters)
        loss = right = torch.zeros((), dtype=torch.float64)
        for x_BI, y_B in _even_chunks(x, y, self.plan.chunk):
            x_1BI, y_1B = x_BI.unsqueeze(0), y_B.unsqueeze(0)
            out_RCB = networks.forward(x_1BI, observer=observer)
            chunk_loss, chunk_right, delta_RCB = self.loss.measure(out_RCB, x_1BI, y_1B)
            loss, right = loss + chunk_loss, right + chunk_right
            networks.backward(delta_RCB, gradients, observer=observer)
            gradients.add = True  # what the next chunks give
        for layer, stats in enumerate(observer.layers):
            weights = [p.tensor for p in networks.weights(layer)]
            unmoved = [networks.unmoved_R11] if layer == 0 and networks.unmoved_R11 is not None else []
            stats.grad_norm_R = l2_norms([gradients.into[p] for p in networks.weights(layer)]) / len(y)
            stats.weight_norm_R = l2_norms([*weights, *unmoved])
            stats.update_norm_R = loss * torch.nan
            if self.before_update:
                stats.update_norm_R = l2_norms([w - b for w, b in zip(weights, self.before_update[layer], strict=True)])
        return loss / len(y), right / len(y), observer.layers

    def _measure_test(self) -> tuple[Tensor, Tensor]:
        loss = right = torch.zeros((), dtype=torch.float64)
        for x_BI, y_B in _even_chunks(self.data.test_x, self.data.test_y, self.plan.chunk):
            x_1BI, y_1B = self.data.scale(x_BI).unsqueeze(0), y_B.unsqueeze(0)
            out_RCB = self.networks.forward(x_1BI, backward=False)
            chunk_loss, chunk_right, _ = self.loss.measure(out_RCB, x_1BI, y_1B)
            loss, right = loss + chunk_loss, right + chunk_right
        return loss / len(self.data.test_y), right / len(self.data.test_y)


def evaluate_initialisation(
    plan: PackPlan, data: DeviceData, networks: Networks, loss: Loss
) -> tuple[Evaluation, Tensor, list[Tensor | None]]:
    """Measures networks as they start. Those that differ in how they will train alone start alike, and are measured once.

    Returns:
        What was measured, which networks were finite [R], and per layer which units were born dead [R, U].
    """
    few, places = plan.pack.at_initialisation()
    if len(few) < len(plan.pack):
        plan = replace(plan, pack=few)
        networks = make_networks(plan, data)
    evaluator = Evaluator(plan, data, networks, loss)
    measured, finite = evaluator.evaluate(0, 0)
    index = torch.tensor(places, device=data.device)
    return measured.at(places), finite[index], [born[index] for born in evaluator.born_dead if born is not None]


def asymptotes_of(pack: Pack, device: str) -> Tensor | None:
    """[R, 2] low and high asymptotes, NaN for networks that are not bounded; None if none is.

    A user's activation may have an attribute ``asymptotes``, a pair of numbers.
    """
    pairs = []
    for spec in pack.variants:
        if is_dotted(spec.activation):
            found = getattr(make_user_activation(spec.activation), "asymptotes", None)
        else:
            found = ACTIVATIONS[spec.activation].asymptotes
        pairs.append(found or (float("nan"), float("nan")))
    if all(low != low for low, _ in pairs):
        return None
    return torch.tensor(pairs, dtype=torch.float64, device=device).repeat(len(pack.seeds), 1)


def _even_chunks(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(x, y) in chunks of at most ``size`` examples: of equal sizes, but for whole vectors of processors."""
    even = -(-len(y) // -(-len(y) // size))
    even = min(size, -(-even // VECTOR) * VECTOR)
    return zip(x.split(even), y.split(even), strict=True)
