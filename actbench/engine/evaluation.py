"""Measuring a pack: every metric of every network, on the probe set and the test split.

Shapes: R networks, B examples, L hidden layers, U units, I input values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.flat_bounds import flat_of
from actbench.engine.networks import make_networks
from actbench.engine.networks.layer_activation import activation_settings
from actbench.engine.networks.protocol import Gradients, Networks
from actbench.engine.user_activations import make_user_activation
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import PackPlan, even_chunk
from actbench.science.activations import ACTIVATIONS, is_dotted, is_silent
from actbench.science.layer_stats import LayerStats, l2_norms
from actbench.science.losses import Loss
from actbench.science.metrics import layer_values, network_values
from actbench.study.spec import SETTINGS, settings_with


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


@dataclass
class Start:
    """What was measured of networks before any step: also which were finite, [R], and per layer which units were dead, [R, U]."""

    measured: Evaluation
    finite_R: Tensor
    dead: list[Tensor]


Starts = dict[tuple, Start]  # by all that decides how networks start and are measured
MOST_STARTS = 64  # that are remembered, the last ones


class Evaluator:
    """Measures the networks of a pack, again and again while they train.

    Args:
        starts: what other packs measured at initialisation, or None if nothing of it may be taken or added.

    Attributes:
        born_dead: per layer, which units were dead at initialisation, [R, U]; None before that was measured.
    """

    def __init__(self, plan: PackPlan, data: DeviceData, networks: Networks, loss: Loss, starts: Starts | None = None) -> None:
        self.plan, self.data, self.networks, self.loss, self._starts = plan, data, networks, loss, starts
        self.depth = len(plan.sizes.layers)
        self.asymptotes = asymptotes_of(plan.pack, data.device)
        silent = [is_silent(spec.activation, dict(activation_settings(spec))) for spec in plan.pack.specs]
        self.silent_R = None if all(silent) else torch.tensor(silent, device=data.device)
        self.born_dead: list[Tensor | None] = [None] * self.depth
        self.before_update: list[list[Tensor]] = []

    def keep_weights(self) -> None:
        """Remembers the weights as they are, so that the next evaluation can tell how much the last update changed."""
        self.before_update = [[p.tensor.clone() for p in self.networks.weights(layer)] for layer in range(self.depth)]

    def evaluate(self, epoch: float, step: int) -> tuple[Evaluation, Tensor]:
        """Measures every network on the probe set and the test split, in evaluation mode.

        Networks that differ in how they will train alone start alike, and are measured once before any step.

        Returns:
            What was measured, and which networks were finite, [R].
        """
        if step:
            return self._evaluate(epoch, step)
        few, places = self.plan.pack.at_initialisation()
        known = {} if self._starts is None else self._starts
        key = self._key_of(few)
        if key not in known:
            if len(few) < len(places):
                plan = replace(self.plan, pack=few)
                fewer = Evaluator(plan, self.data, make_networks(plan, self.data), self.loss)
            else:
                fewer = self
            known[key] = Start(*fewer._evaluate(epoch, step), fewer._dead)
            if len(known) > MOST_STARTS:
                del known[next(iter(known))]
        start = known[key]
        self.born_dead = [dead_RU[places] for dead_RU in start.dead]
        return start.measured.at(places), start.finite_R[places]

    def _key_of(self, few: Pack) -> tuple:
        """All that decides what the networks that start a pack give at initialisation."""
        plan, training = self.plan, settings_with("training")
        each = tuple(tuple(getattr(spec, name) for name in SETTINGS if name not in training) for spec in few.specs)
        batch = plan.spec.batch_size  # what batch norm's statistics begin with
        return each, batch, plan.full, plan.chunk, plan.products, plan.merges_fixed_inputs, plan.shares_products

    def _evaluate(self, epoch: float, step: int) -> tuple[Evaluation, Tensor]:
        flat = [flat_of(self.plan.pack, activation, self.data.probe_x) for activation in self.networks.activations]
        layers = [LayerStats(self.asymptotes, *both) for both in zip(self.born_dead, repeat(self.silent_R), flat, strict=False)]
        with self.networks.in_evaluation():
            probe_loss, probe_right, gradient_R = self._measure_probe(layers)
            validation_loss, validation_right = self._measure(self.data.validation_x, self.data.validation_y)
            test_loss, test_right = self._measure(self.data.test_x, self.data.test_y)
        network = {
            "train_loss": probe_loss,
            "train_accuracy": probe_right,
            "validation_loss": validation_loss,
            "validation_accuracy": validation_right,
            "test_loss": test_loss,
            "test_accuracy": test_right,
            **network_values(layers),
            "grad_norm_total": gradient_R,
            "code_sparsity": torch.full_like(probe_loss, torch.nan),
        }
        if self.loss.reconstructs and self.depth % 2:  # else no layer is the middle one
            code = layers[self.depth // 2]
            network["code_sparsity"] = (code.zeros_RU / code.examples).mean(1, dtype=torch.float64)
        finite = probe_loss.isfinite() & test_loss.isfinite()
        for stats in layers:
            finite &= (stats.h.square_R + stats.z.square_R).isfinite()
        self._dead = [stats.dead_RU for stats in layers]
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

    def _measure_probe(self, layers: list[LayerStats]) -> tuple[Tensor, Tensor, Tensor]:
        """(mean loss, share of right answers, L2 norm of the mean loss's gradient), [R] each; fills ``layers``."""
        gradients = Gradients(self.networks.parameters, in_place=False)
        loss, right = self._measure(self.data.probe_x, self.data.probe_y, layers, gradients)
        for layer, stats in enumerate(layers):
            weights = [p.tensor for p in self.networks.weights(layer)]
            unmoved = [self.networks.unmoved_R11] if layer == 0 and self.networks.unmoved_R11 is not None else []
            stats.grad_norm_R = l2_norms([gradients.into[p] for p in self.networks.weights(layer)]) / len(self.data.probe_y)
            stats.weight_norm_R = l2_norms([*weights, *unmoved])
            stats.update_norm_R = loss * torch.nan
            if self.before_update:
                stats.update_norm_R = l2_norms([w - b for w, b in zip(weights, self.before_update[layer], strict=True)])
        return loss, right, self._norm_of_all(gradients) / len(self.data.probe_y)

    def _norm_of_all(self, gradients: Gradients) -> Tensor:
        """The L2 norm over all parameters of each network, [R]."""
        variants = len(self.plan.pack.variants)
        square_R = torch.zeros(len(self.plan.pack), dtype=torch.float64, device=self.data.device)
        # one after another: a sum over all at once rounds by how many networks there are
        for p, gradient in gradients.into.items():
            if p.variants is None:
                square_R += l2_norms([gradient]).square()
            else:
                each = l2_norms([gradient.reshape(-1, gradient[0, 0].numel(), 1)]).square()
                square_R.view(-1, variants)[:, p.variants] += each.view(-1, p.variants.stop - p.variants.start)
        return square_R.sqrt()

    def _measure(
        self, x: Tensor, y: Tensor, stats: list[LayerStats] | None = None, gradients: Gradients | None = None
    ) -> tuple[Tensor, Tensor]:
        """(mean loss, share of right answers), [R] each, over examples; NaN if there are none.

        They are the probe set or, without ``stats``, others that are not yet scaled.
        """
        loss = right = torch.zeros((), dtype=torch.float64)
        if not len(y):
            nothing = torch.full((len(self.plan.pack),), torch.nan, dtype=torch.float64, device=self.data.device)
            return nothing, nothing
        for x_BI, y_B in _even_chunks(x, y, self.plan.chunk):
            x_1BI, y_1B = (x_BI if stats else self.data.scale(x_BI)).unsqueeze(0), y_B.unsqueeze(0)
            out_RCB = self.networks.forward(x_1BI, stats=stats)
            chunk_loss, chunk_right = self.loss.measure(out_RCB, x_1BI, y_1B)
            loss, right = loss + chunk_loss, right + chunk_right
            if gradients is not None:
                self.networks.backward(self.loss.delta(out_RCB, x_1BI, y_1B), gradients)
                gradients.add = True  # what the next chunks give
        return loss / len(y), right / len(y)


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
    even = even_chunk(len(y), size)
    return zip(x.split(even), y.split(even), strict=True)
