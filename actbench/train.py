"""`train(pack) → measurements`: the training loop and its evaluation schedule.

Shapes: R networks, S seeds, C classes, B examples, L hidden layers, E evaluations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actbench.device_data import DeviceData
from actbench.metrics import LayerStats, l2_norms, layer_values, network_values
from actbench.models.elementwise import asymptotes_of
from actbench.models.mlp import StackedMLP
from actbench.optim import OPTIMIZERS
from actbench.plan import uses_plain_sgd
from actbench.spec import Pack

CHUNK_ELEMENTS = 2**19  # values of one layer's activations in a chunk of an evaluation: measured to be best


class Interrupted(Exception):
    """Training was asked to stop; what it had done of this pack is dropped."""


@dataclass
class Evaluation:
    """What was measured once: epoch, step and, per column, an array [R] (``network``) or [R, L] (``layers``)."""

    epoch: int
    step: int
    network: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]


@dataclass
class Measurements:
    """What training a pack gave.

    Attributes:
        evaluations: one per epoch, initialisation first.
        finite: [R] whether every training loss and every evaluation was finite (else the network diverged).
        steps: [R] how many steps had a finite training loss.
        seconds: of the whole pack.
        measuring_seconds: of evaluations.
    """

    evaluations: list[Evaluation] = field(default_factory=list)
    finite: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    steps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seconds: float = 0.0
    measuring_seconds: float = 0.0


def train(
    pack: Pack,
    data: DeviceData,
    *,
    on_evaluation: Callable[[Evaluation], None] = lambda evaluation: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Measurements:
    """Trains all networks of a pack and measures them at initialisation and after every ``eval_every`` epochs.

    Args:
        pack: the networks.
        data: their data set on the device, in their scaling and precision.
        on_evaluation: called after each evaluation.
        stopped: asked at every step whether to give up.

    Raises:
        Interrupted: ``stopped`` said so.
    """
    began = time.perf_counter()
    spec, result = pack.shared, Measurements()
    with torch.no_grad():
        trainer, evaluated = Trainer(pack, data), set(spec.evaluated_epochs)
        for epoch in range(spec.epochs + 1):
            if epoch:
                trainer.train_epoch(epoch, stopped)
            if stopped():
                raise Interrupted
            if epoch not in evaluated:
                continue
            started = time.perf_counter()
            result.evaluations.append(trainer.evaluate(epoch) if epoch else trainer.evaluate_initialisation())
            result.measuring_seconds += time.perf_counter() - started
            on_evaluation(result.evaluations[-1])
        result.finite = trainer.finite_R.cpu().numpy()
        result.steps = trainer.steps_R.cpu().numpy()
    result.seconds = time.perf_counter() - began
    return result


class Trainer:
    """A pack in training: the networks, their optimizer's state and what was born dead."""

    def __init__(self, pack: Pack, data: DeviceData) -> None:
        self.pack, self.data = pack, data
        spec, device = pack.shared, data.device
        self.networks = StackedMLP(pack, data.features, data.data.classes, device, data.dtype, data.fixed)
        self.parameters = [p for p, _ in self.networks.parameters()]
        self.asymptotes = asymptotes_of(pack, device)
        self.born_dead: list[Tensor | None] = [None] * spec.depth
        self.finite_R = torch.ones(len(pack), dtype=torch.bool, device=device)
        self.steps_R = torch.zeros(len(pack), dtype=torch.int64, device=device)
        self.step = 0
        self.before_update: list[list[Tensor]] = []
        self.plain_sgd = uses_plain_sgd(spec)
        self.lr = self._per_network("lr")
        if not self.plain_sgd:
            self.update = OPTIMIZERS[spec.optimizer].step
            self.gradients = [torch.empty_like(p) for p in self.parameters]
            self.states: list[dict[str, Tensor]] = [{} for _ in self.parameters]
            self.momentum = self._per_network("momentum") if spec.momentum else None
            self.weight_decay = self._per_network("weight_decay") if spec.weight_decay else None

    def _per_network(self, setting: str) -> Tensor:
        values = [getattr(spec, setting) for spec in self.pack.specs]
        return torch.tensor(values, device=self.data.device, dtype=self.data.dtype).view(-1, 1, 1)

    def train_epoch(self, epoch: int, stopped: Callable[[], bool]) -> None:
        """One pass over the training data, each seed in its own order."""
        order_SN = self.data.order(self.pack.seeds, epoch)
        batches = order_SN.split(self.pack.shared.batch_size, dim=1)
        for number, index_SB in enumerate(batches, 1):
            if stopped():
                raise Interrupted
            if number == len(batches):  # the update that the next evaluation reports
                self.before_update = [[w.clone() for w in weights] for weights in self._hidden_weights(self.parameters)]
            self.train_step(*self.data.batch(index_SB))

    def _hidden_weights(self, tensors: list[Tensor]) -> list[list[Tensor]]:
        return [self.networks.weights_of(layer, tensors) for layer in range(self.networks.depth)]

    def train_step(self, x_SBI: Tensor, y_SB: Tensor) -> None:
        """One step of every network on its seed's batch. No decision in here depends on a tensor's value."""
        logits = self.networks.forward(x_SBI)
        delta = torch.softmax(logits, 1)
        _subtract_labels(delta, y_SB)
        self.finite_R &= delta.sum((1, 2)).isfinite()  # softmax of anything not finite is NaN
        self.steps_R += self.finite_R
        self.step += 1
        if self.plain_sgd:
            delta.mul_(self.lr * (-1 / y_SB.shape[1]))
            self.networks.backward(x_SBI, delta, self.parameters, add=True)
            return
        delta.mul_(1 / y_SB.shape[1])
        self.networks.backward(x_SBI, delta, self.gradients, add=False)
        owned = self.networks.parameters()
        for (p, part), gradient, state in zip(owned, self.gradients, self.states, strict=True):
            lr, momentum, decay = (self._shaped(t, p, part) for t in (self.lr, self.momentum, self.weight_decay))
            nesterov = bool(self.pack.shared.nesterov)
            self.update(p, gradient, state, self.step, lr, momentum, decay, nesterov)

    def _shaped(self, setting_R11: Tensor | None, p: Tensor, part: slice | None) -> Tensor | None:
        if setting_R11 is None or part is None:
            return setting_R11
        setting_SK = setting_R11.view(len(self.pack.seeds), -1)[:, part]
        return setting_SK.reshape(*setting_SK.shape, *[1] * (p.ndim - 2))

    def evaluate_initialisation(self) -> Evaluation:
        """Like ``evaluate(0)``, but measures once what several networks have in common: they differ in how they will train."""
        few, places = self.pack.at_initialisation()
        if len(few) == len(self.pack):
            return self.evaluate(0)
        trainer = Trainer(few, self.data)
        measured = trainer.evaluate(0)
        index = torch.tensor(places, device=self.data.device)
        self.born_dead = [born[index] for born in trainer.born_dead if born is not None]
        self.finite_R = trainer.finite_R[index]
        network = {name: values[places] for name, values in measured.network.items()}
        return Evaluation(0, 0, network, {name: values[places] for name, values in measured.layers.items()})

    def evaluate(self, epoch: int) -> Evaluation:
        """Measures every network on the probe set and the test split, in evaluation mode."""
        probe_loss, probe_right, layers = self._measure_probe()
        test_loss, test_right = self._measure_test()
        network = {
            "train_loss": probe_loss,
            "train_accuracy": probe_right,
            "test_loss": test_loss,
            "test_accuracy": test_right,
            **network_values(layers),
        }
        finite = probe_loss.isfinite() & test_loss.isfinite()
        for stats in layers:
            finite &= (stats.h.square_R + stats.z.square_R).isfinite()
        self.finite_R &= finite
        if epoch == 0:
            self.born_dead = [stats.dead_RU for stats in layers]
        per_layer = [layer_values(stats) for stats in layers]
        columns = {name: torch.stack([values[name] for values in per_layer], 1) for name in per_layer[0]}
        hide = ~finite  # a network that is not finite has no metrics
        return Evaluation(
            epoch,
            self.step,
            {name: value.masked_fill(hide, torch.nan).cpu().numpy() for name, value in network.items()},
            {name: value.masked_fill(hide.unsqueeze(1), torch.nan).cpu().numpy() for name, value in columns.items()},
        )

    def _chunk(self) -> int:
        return max(64, min(1024, CHUNK_ELEMENTS // (len(self.pack) * self.pack.shared.width)))

    def _measure_probe(self) -> tuple[Tensor, Tensor, list[LayerStats]]:
        networks, x, y = self.networks, self.data.probe_x, self.data.probe_y
        layers = [LayerStats(self.asymptotes, born) for born in self.born_dead]
        gradients = [torch.zeros_like(p) for p in self.parameters]
        loss = right = torch.zeros((), dtype=torch.float64)

        def seen(layer: int, z: Tensor, h: Tensor) -> None:
            layers[layer].observe(z, h)

        def seen_delta(layer: int, delta: Tensor) -> None:
            layers[layer].observe_delta(delta)

        for x_BI, y_B in _even_chunks(x, y, self._chunk()):
            x_1BI, y_1B = x_BI.unsqueeze(0), y_B.unsqueeze(0)
            logits = networks.forward(x_1BI, seen)
            chunk_loss, chunk_right, delta = _loss(logits, y_B)
            loss, right = loss + chunk_loss, right + chunk_right
            _subtract_labels(delta, y_1B)
            networks.observe(x_1BI, delta, gradients, seen_delta)
        for layer, stats in enumerate(layers):
            weights = networks.weights_of(layer, self.parameters)
            stats.grad_norm_R = l2_norms(networks.weights_of(layer, gradients)) / len(y)
            stats.weight_norm_R = l2_norms(weights)
            stats.update_norm_R = loss * torch.nan
            if self.before_update:
                stats.update_norm_R = l2_norms([w - b for w, b in zip(weights, self.before_update[layer], strict=True)])
        return loss / len(y), right / len(y), layers

    def _measure_test(self) -> tuple[Tensor, Tensor]:
        loss = right = torch.zeros((), dtype=torch.float64)
        for x_BI, y_B in _even_chunks(self.data.test_x, self.data.test_y, self._chunk()):
            chunk_loss, chunk_right, _ = _loss(self.networks.forward(x_BI.unsqueeze(0)), y_B)
            loss, right = loss + chunk_loss, right + chunk_right
        return loss / len(self.data.test_y), right / len(self.data.test_y)


def _even_chunks(x: Tensor, y: Tensor, size: int) -> Any:
    """(x, y) in chunks of equal size, as far as that goes, of at most ``size`` examples."""
    even = -(-len(y) // -(-len(y) // size))
    return zip(x.split(even), y.split(even), strict=True)


def _loss(logits_RCB: Tensor, y_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of cross-entropies [R], how many are right [R], softmax [R, C, B])."""
    log_p = torch.log_softmax(logits_RCB, 1)
    index = y_B.view(1, 1, -1).expand(len(log_p), 1, -1)
    loss = -log_p.gather(1, index).sum((1, 2), dtype=torch.float64)
    return loss, _count_right(logits_RCB, y_B), log_p.exp_()


def _count_right(logits_RCB: Tensor, y_B: Tensor) -> Tensor:
    """How often the first largest logit is the label's, [R]: what argmax gives, without its walk across memory."""
    classes = logits_RCB.shape[1]
    rank_C = torch.arange(classes, 0, -1, dtype=logits_RCB.dtype, device=logits_RCB.device)
    is_largest = torch.empty_like(logits_RCB)
    torch.eq(logits_RCB, logits_RCB.amax(1, keepdim=True), out=is_largest)
    first_RB = is_largest.mul_(rank_C.view(1, -1, 1)).amax(1)
    return (first_RB == classes - y_B).sum(1)


def _subtract_labels(p_RCB: Tensor, y_SB: Tensor) -> None:
    """p minus the one-hot labels, in place: the gradient of each example's cross-entropy by its logits."""
    seeds, batch = y_SB.shape
    one_hot_S1CB = torch.zeros(seeds, 1, p_RCB.shape[1], batch, dtype=p_RCB.dtype, device=p_RCB.device)
    one_hot_S1CB.scatter_(2, y_SB.view(seeds, 1, 1, batch), 1)
    p_RCB.view(seeds, -1, *p_RCB.shape[1:]).sub_(one_hot_S1CB)
