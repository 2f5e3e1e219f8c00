"""`train(pack) → measurements`: the training loop and its evaluation schedule.

Shapes: R networks, S seeds, C outputs, B examples, L hidden layers, I input values.
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
from actbench.losses import Loss
from actbench.metrics import LayerStats, l2_norms, layer_values, network_values
from actbench.models import make_networks
from actbench.models.elementwise import asymptotes_of
from actbench.optim import OPTIMIZERS
from actbench.plan import chunk_examples, uses_plain_sgd
from actbench.schedule import evaluation_steps, lr_factor, steps_per_epoch
from actbench.spec import Pack

VECTOR = 16  # float32 values
CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class Interrupted(Exception):
    """Training was asked to stop; what it had done of this pack is dropped."""


@dataclass
class Evaluation:
    """What was measured once: epoch (part of one, between), step and, per column, an array [R] (``network``) or [R, L]
    (``layers``)."""

    epoch: float
    step: int
    network: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]


@dataclass
class Measurements:
    """What training a pack gave.

    Attributes:
        evaluations: initialisation first.
        finite: [R] whether every training loss and every evaluation was finite (else the network diverged).
        steps: [R] how many steps had a finite training loss.
        parameters: [R] how many trained numbers a network has.
        units: of each hidden layer.
        seconds: of the whole pack.
        measuring_seconds: of evaluations.
        training_seconds: of training steps alone.
    """

    evaluations: list[Evaluation] = field(default_factory=list)
    finite: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    steps: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    parameters: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    units: list[int] = field(default_factory=list)
    seconds: float = 0.0
    measuring_seconds: float = 0.0
    training_seconds: float = 0.0


def train(
    pack: Pack,
    data: DeviceData,
    *,
    on_evaluation: Callable[[Evaluation], None] = lambda evaluation: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Measurements:
    """Trains all networks of a pack and measures them at initialisation and whenever their schedule says.

    Args:
        pack: the networks.
        data: their data set on the device, in their scaling and precision.
        on_evaluation: called after each evaluation.
        stopped: asked at every step whether to give up.

    Raises:
        Interrupted: ``stopped`` said so.
    """
    began = time.perf_counter()
    result = Measurements()

    def measure(epoch: float) -> None:
        started = time.perf_counter()
        result.evaluations.append(trainer.evaluate(epoch) if trainer.step else trainer.evaluate_initialisation())
        result.measuring_seconds += time.perf_counter() - started
        on_evaluation(result.evaluations[-1])

    with torch.no_grad():
        trainer = Trainer(pack, data)
        measure(0)
        ready, measured = time.perf_counter(), result.measuring_seconds
        for epoch in range(1, pack.shared.epochs + 1):
            batches = data.order(pack.seeds, epoch).split(pack.shared.batch_size, dim=1)
            for number, index_SB in enumerate(batches, 1):
                if stopped():
                    raise Interrupted
                due = trainer.step + 1 in trainer.evaluated
                if due:  # the update that the evaluation reports
                    trainer.keep_weights()
                trainer.train_step(*data.batch(index_SB))
                if due:
                    measure(epoch if number == len(batches) else epoch - 1 + number / len(batches))
        result.training_seconds = time.perf_counter() - ready - (result.measuring_seconds - measured)
        result.finite = trainer.finite_R.cpu().numpy()
        result.steps = trainer.steps_R.cpu().numpy()
        result.parameters = trainer.parameter_counts()
        result.units = [layer.units for layer in trainer.networks.sizes.layers]
    result.seconds = time.perf_counter() - began
    return result


class Trainer:
    """A pack in training: the networks, their optimizer's state and what was born dead.

    Attributes:
        evaluated: the steps after which the networks are to be measured.
        last: how many steps there will be.
    """

    def __init__(self, pack: Pack, data: DeviceData) -> None:
        self.pack, self.data = pack, data
        spec, device = pack.shared, data.device
        self.networks = make_networks(pack, data)
        self.parameters = [p for p, _ in self.networks.parameters()]
        self.depth = len(self.networks.sizes.layers)
        self.loss = Loss(spec.loss, reconstructs=spec.model == "autoencoder")
        self.asymptotes = asymptotes_of(pack, device)
        self.born_dead: list[Tensor | None] = [None] * self.depth
        self.finite_R = torch.ones(len(pack), dtype=torch.bool, device=device)
        self.steps_R = torch.zeros(len(pack), dtype=torch.int64, device=device)
        self.step = 0
        self.evaluated = set(evaluation_steps(spec, data.shape.train))
        self.last = spec.epochs * steps_per_epoch(spec, data.shape.train)
        self.before_update: list[list[Tensor]] = []
        self.plain_sgd = uses_plain_sgd(spec)
        self.lr = self._per_network("lr")
        settings = ("momentum", "weight_decay", "weight_l1", "activation_l1", "grad_clip")
        told = {name: self._per_network(name) if getattr(spec, name) else None for name in settings}
        self.momentum, self.weight_decay = told["momentum"], told["weight_decay"]
        self.weight_l1, self.activation_l1, self.grad_clip = told["weight_l1"], told["activation_l1"], told["grad_clip"]
        if not self.plain_sgd:
            self.update = OPTIMIZERS[spec.optimizer].step
            self.gradients = [torch.empty_like(p) for p in self.parameters]
            self.states: list[dict[str, Tensor]] = [{} for _ in self.parameters]

    def _per_network(self, setting: str) -> Tensor:
        values = [getattr(spec, setting) for spec in self.pack.specs]
        return torch.tensor(values, device=self.data.device, dtype=self.data.dtype).view(-1, 1, 1)

    def keep_weights(self) -> None:
        """Remembers the weights as they are, so that the next evaluation can tell how much the last update changed."""
        now = [p for p, _ in self.networks.parameters()]
        self.before_update = [[w.clone() for w in self.networks.weights_of(layer, now)] for layer in range(self.depth)]

    def parameter_counts(self) -> np.ndarray:
        """How many trained numbers each network has, [R]."""
        counts = np.zeros((len(self.pack.seeds), len(self.pack.variants)), np.int64)
        for p, part in self.networks.parameters():
            counts[:, part or slice(None)] += p[0].numel() if part is None else p[0, 0].numel()
        return counts.reshape(-1)

    def train_step(self, x_SBI: Tensor, y_SB: Tensor) -> None:
        """One step of every network on its seed's batch. No decision in here depends on a tensor's value."""
        spec, share = self.pack.shared, 1 / y_SB.shape[1]
        read_SBI = x_SBI
        if spec.corruption:
            read_SBI = self.data.corrupted(x_SBI, self.pack.seeds, self.step, spec.corruption)
        out = self.networks.forward(read_SBI, step=self.step)
        delta = self.loss.delta(out, x_SBI, y_SB)
        total_R = delta.sum((1, 2))
        self.finite_R &= total_R - total_R == 0  # the softmax of anything not finite is NaN
        self.steps_R += self.finite_R
        lr = self.lr * lr_factor(spec.lr_schedule, self.step, self.last)
        self.step += 1
        penalty = self.activation_l1
        if self.plain_sgd:
            delta.mul_(lr * -share)
            penalty = None if penalty is None else penalty * lr * -share
            self.networks.backward(read_SBI, delta, self.parameters, add=True, penalty_R=penalty)
            return
        delta.mul_(share)
        penalty = None if penalty is None else penalty * share
        self.networks.backward(read_SBI, delta, self.gradients, add=False, penalty_R=penalty)
        if self.weight_l1 is not None:
            weights, gradients = (self.networks.all_weights(tensors) for tensors in (self.parameters, self.gradients))
            for w, gradient in zip(weights, gradients, strict=True):
                gradient.addcmul_(torch.sign(w), self.weight_l1)
        owned = self.networks.parameters()
        if self.grad_clip is not None:
            self._clip([part for _, part in owned])
        for (p, part), gradient, state in zip(owned, self.gradients, self.states, strict=True):
            rate, momentum, decay = (self._shaped(t, part, p.ndim) for t in (lr, self.momentum, self.weight_decay))
            self.update(p, gradient, state, self.step, rate, momentum, decay, bool(spec.nesterov))

    def _clip(self, parts: list[slice | None]) -> None:
        """Scales each network's gradients so that their common L2 norm is at most its ``grad_clip``."""
        seeds = len(self.pack.seeds)
        square_SK = torch.zeros(seeds, len(self.pack.variants), dtype=self.data.dtype, device=self.data.device)
        for gradient, part in zip(self.gradients, parts, strict=True):
            whole = gradient.view(seeds, -1, *gradient.shape[1:]) if part is None else gradient
            square_SK[:, part or slice(None)] += whole.square().sum(tuple(range(2, whole.ndim)))
        assert self.grad_clip is not None
        factor_R11 = (self.grad_clip / (square_SK.sqrt().view(-1, 1, 1) + CLIP_EPS)).clamp_max(1)
        for gradient, part in zip(self.gradients, parts, strict=True):
            gradient.mul_(self._shaped(factor_R11, part, gradient.ndim))

    def _shaped(self, setting_R11: Tensor | None, part: slice | None, dimensions: int) -> Any:
        """A per-network setting in the shape of a parameter: [R, 1, 1], or [S, k, 1, …] of a slice of variants."""
        if setting_R11 is None or part is None:
            return setting_R11
        setting_SK = setting_R11.view(len(self.pack.seeds), -1)[:, part]
        return setting_SK.reshape(*setting_SK.shape, *[1] * (dimensions - 2))

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

    def evaluate(self, epoch: float) -> Evaluation:
        """Measures every network on the probe set and the test split, in evaluation mode."""
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
        self.finite_R &= finite
        if self.step == 0:
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
