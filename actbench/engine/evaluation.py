"""Measuring a pack: every metric of every network, on the probe set and the test split.

Shapes: R networks, B examples, L hidden layers, I input values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.science.losses import Loss
from actbench.science.metrics import LayerStats, l2_norms, layer_values, network_values
from actbench.engine.networks.layer_activation import asymptotes_of
from actbench.engine.networks.by_autograd import Networks
from actbench.plan.costs import chunk_examples
from actbench.study.spec import Pack

VECTOR = 16  # float32 values


@dataclass
class Evaluation:
    """What was measured once: epoch (part of one, between), step and, per column, an array [R] (``network``) or [R, L]
    (``layers``)."""

    epoch: float
    step: int
    network: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]


class Evaluator:
    """Measures the networks of a pack, again and again while they train.

    Attributes:
        born_dead: per layer, which units were dead at initialisation, [R, U]; None before that was measured.
    """

    def __init__(self, pack: Pack, data: DeviceData, networks: Networks, loss: Loss) -> None:
        self.pack, self.data, self.networks, self.loss = pack, data, networks, loss
        self.depth = len(networks.sizes.layers)
        self.asymptotes = asymptotes_of(pack, data.device)
        self.born_dead: list[Tensor | None] = [None] * self.depth
        self.before_update: list[list[Tensor]] = []

    def keep_weights(self) -> None:
        """Remembers the weights as they are, so that the next evaluation can tell how much the last update changed."""
        now = [p for p, _ in self.networks.parameters()]
        self.before_update = [[w.clone() for w in self.networks.weights_of(layer, now)] for layer in range(self.depth)]

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

    def _chunk(self) -> int:
        return chunk_examples(self.pack.shared, self.data.shape, len(self.pack))

    def _measure_probe(self) -> tuple[Tensor, Tensor, list[LayerStats]]:
        networks, x, y = self.networks, self.data.probe_x, self.data.probe_y
        layers = [LayerStats(self.asymptotes, born) for born in self.born_dead]
        parameters = [p for p, _ in networks.parameters()]
        gradients = [torch.empty_like(p) for p in parameters]
        loss = right = torch.zeros((), dtype=torch.float64)

        def seen(layer: int, z: Tensor, h: Tensor, examples: int) -> None:
            layers[layer].observe(z, h)

        def seen_delta(layer: int, delta: Tensor, examples: int) -> None:
            layers[layer].observe_delta(delta, examples)

        for number, (x_BI, y_B) in enumerate(_even_chunks(x, y, self._chunk())):
            x_1BI, y_1B = x_BI.unsqueeze(0), y_B.unsqueeze(0)
            out = networks.forward(x_1BI, seen)
            chunk_loss, chunk_right, delta = self.loss.measure(out, x_1BI, y_1B)
            loss, right = loss + chunk_loss, right + chunk_right
            networks.observe(x_1BI, delta, gradients, seen_delta, add=number > 0)
        for layer, stats in enumerate(layers):
            weights = networks.weights_of(layer, parameters)
            stats.grad_norm_R = l2_norms(networks.weights_of(layer, gradients)) / len(y)
            stats.weight_norm_R = l2_norms(weights)
            stats.update_norm_R = loss * torch.nan
            if self.before_update:
                stats.update_norm_R = l2_norms([w - b for w, b in zip(weights, self.before_update[layer], strict=True)])
        return loss / len(y), right / len(y), layers

    def _measure_test(self) -> tuple[Tensor, Tensor]:
        loss = right = torch.zeros((), dtype=torch.float64)
        for x_BI, y_B in _even_chunks(self.data.test_x, self.data.test_y, self._chunk()):
            x_1BI, y_1B = self.data.scale(x_BI).unsqueeze(0), y_B.unsqueeze(0)
            out = self.networks.forward(x_1BI, graph=False)
            chunk_loss, chunk_right, _ = self.loss.measure(out, x_1BI, y_1B)
            loss, right = loss + chunk_loss, right + chunk_right
        return loss / len(self.data.test_y), right / len(self.data.test_y)


def _even_chunks(x: Tensor, y: Tensor, size: int) -> Any:
    """(x, y) in chunks of at most ``size`` examples: of equal sizes, but for whole vectors of processors."""
    even = -(-len(y) // -(-len(y) // size))
    even = min(size, -(-even // VECTOR) * VECTOR)
    return zip(x.split(even), y.split(even), strict=True)


def asymptotes_of(pack: Pack, device: Any) -> Tensor | None:
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
