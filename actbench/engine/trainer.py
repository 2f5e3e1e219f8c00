"""A pack in training: what one step does, and what training has given so far.

Shapes: R networks, S seeds, C outputs, B examples, I input values.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from actbench.engine.device_data import DeviceData
from actbench.engine.evaluation import Evaluation, Evaluator, Starts
from actbench.engine.networks import make_networks
from actbench.engine.recorded_steps import RECORDING, CudaRecorder, RecordedSteps, Recorder
from actbench.engine.stacked_optimizer import StackedOptimizer
from actbench.plan.pack_plan import PackPlan
from actbench.plan.schedule import lr_factor
from actbench.science.losses import Loss


@dataclass
class Measurements:
    """What training a pack gave; arrays are there when it has ended."""

    units: list[int]  # of each hidden layer
    evaluations: list[Evaluation] = field(default_factory=list)  # initialisation first
    layer_names: tuple[str, ...] = ()  # of a network of a user's own
    finite: np.ndarray = field(init=False)  # [R] whether all losses and evaluations were finite (else the network diverged)
    steps: np.ndarray = field(init=False)  # [R] how many steps had a finite training loss
    parameters: np.ndarray = field(init=False)  # [R] how many trained numbers a network has
    seconds: float = 0.0  # of the whole pack
    measuring_seconds: float = 0.0  # of evaluations
    training_seconds: float = 0.0  # of training steps alone


class Trainer:
    """A pack in training.

    Attributes:
        steps: how many steps have been taken.
        finite_R: which networks have been finite so far.
    """

    def __init__(self, plan: PackPlan, data: DeviceData, recorder: Recorder | None = None, starts: Starts | None = None) -> None:
        """Makes the networks.

        Args:
            plan: the pack and how it is trained.
            data: its data set on the device, in its scaling and precision.
            recorder: records steps and replays them, where that can be done (default: on a GPU, as CUDA graphs).
            starts: what packs that start alike have measured at initialisation, and where this one adds what it measures.
        """
        self.plan, self.data, device = plan, data, data.device
        self.networks = make_networks(plan, data)
        self.loss = Loss(plan.spec.loss, reconstructs=plan.spec.model == "autoencoder")
        self.optimizer = StackedOptimizer(plan, self.networks, data.dtype, device)
        self.evaluator = Evaluator(plan, data, self.networks, self.loss, starts)
        self.measurements = Measurements([layer.units for layer in plan.sizes.layers])
        self.steps = 0
        self.finite_R = torch.ones(len(plan.pack), dtype=torch.bool, device=device)
        self._finite_steps_R = torch.zeros(len(plan.pack), dtype=torch.int64, device=device)
        self._on_gpu = device.startswith("cuda")
        recorder = CudaRecorder(device) if recorder is None and self._on_gpu else recorder
        self._recorded: RecordedSteps | None = None
        if recorder is not None and plan.can_be_recorded:
            factors = [lr_factor(plan.spec.lr_schedule, step, plan.steps) for step in range(plan.steps)]
            rates = torch.tensor(factors, dtype=data.dtype, device=device)
            self._recorded = RecordedSteps(recorder, self._step, rates, lambda: list(self.networks.scratch.values()))

    def step(self, index_SB: Tensor) -> None:
        """One step of every network on its seed's batch, given by its examples' places."""
        if self._recorded is not None:
            self._recorded.step(index_SB)
        else:
            self._step(index_SB, lr_factor(self.plan.spec.lr_schedule, self.steps, self.plan.steps), self.steps + 1)
        self.steps += 1

    def _step(self, index_SB: Tensor, factor: float | Tensor, t: int | Tensor) -> None:
        """The t-th step, with the learning rate times ``factor``.

        No decision in here depends on a tensor's value, and nothing comes from the CPU but what Python draws for dropout and
        corruption: else it could not be recorded.
        """
        x_SBI, y_SB = self.data.batch(index_SB)
        read_SBI = self.data.corrupted(x_SBI, self.plan.pack.seeds, self.steps, self.plan.spec.corruption)
        out_RCB = self.networks.forward(read_SBI, step=self.steps)
        delta_RCB = self.loss.delta(out_RCB, x_SBI, y_SB)
        total_R = delta_RCB.sum((1, 2))
        self.finite_R &= total_R - total_R == 0  # the softmax of anything not finite is NaN
        self._finite_steps_R += self.finite_R
        self.optimizer.update(delta_RCB, factor, t)

    def finish_steps(self) -> None:
        """Waits until the device has done what it was given: a GPU works behind the CPU's back."""
        if self._on_gpu:
            with RECORDING:
                torch.cuda.synchronize(self.data.device)

    def evaluate(self, epoch: float) -> Evaluation:
        """Measures every network, in evaluation mode."""
        started = time.perf_counter()
        measured, finite_R = self.evaluator.evaluate(epoch, self.steps)
        self.finite_R &= finite_R
        self.measurements.evaluations.append(measured)
        self.measurements.measuring_seconds += time.perf_counter() - started
        return measured

    def finish(self) -> None:
        """Notes how every network ended."""
        done = self.measurements
        done.finite, done.steps = self.finite_R.cpu().numpy(), self._finite_steps_R.cpu().numpy()
        counts = np.zeros((len(self.plan.pack.seeds), len(self.plan.pack.variants)), np.int64)
        for p in self.networks.parameters:
            counts[:, p.variants or slice(None)] += p.tensor[0].numel() if p.variants is None else p.tensor[0, 0].numel()
        if self.data.merged is not None:  # each weight of an input that was merged is one of the network's
            merged = len(self.data.merged.fixed) - bool(self.data.merged.length)
            counts += merged * self.plan.sizes.layers[0].pre
        done.parameters = counts.reshape(-1)

    def close(self) -> None:
        """Lets go of what was recorded, which refers to the trainer: memory on a GPU is given back now."""
        self._recorded = None
