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

from actbench.engine.device_data import DeviceData
from actbench.engine.evaluation import Evaluation, Evaluator
from actbench.engine.recorded_steps import RECORDING, CudaRecorder, RecordedSteps, Recorder, can_be_recorded
from actbench.science.losses import Loss
from actbench.engine.networks import make_networks
from actbench.science.optimizers import OPTIMIZERS
from actbench.plan.costs import uses_plain_sgd
from actbench.plan.schedule import evaluation_steps, lr_factor, steps_per_epoch
from actbench.study.spec import Pack

CLIP_EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class Interrupted(Exception):
    """Training was asked to stop; what it had done of this pack is dropped."""


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
    recorder: Recorder | None = None,
) -> Measurements:
    """Trains all networks of a pack and measures them at initialisation and whenever their schedule says.

    Args:
        pack: the networks.
        data: their data set on the device, in their scaling and precision.
        on_evaluation: called after each evaluation.
        stopped: asked at every step whether to give up.
        recorder: records steps and replays them, where that can be done (default: on a GPU, as CUDA graphs).

    Raises:
        Interrupted: ``stopped`` said so.
    """
    began = time.perf_counter()
    result = Measurements()
    on_gpu = torch.device(data.device).type == "cuda"
    if recorder is None and on_gpu:
        recorder = CudaRecorder(data.device)

    def measure(epoch: float) -> None:
        if on_gpu:  # so that each is charged with its own time: a GPU works behind the CPU's back
            with RECORDING:
                torch.cuda.synchronize(data.device)
        started = time.perf_counter()
        result.evaluations.append(trainer.evaluate(epoch) if trainer.step else trainer.evaluate_initialisation())
        result.measuring_seconds += time.perf_counter() - started
        on_evaluation(result.evaluations[-1])

    with torch.no_grad():
        trainer = Trainer(pack, data, recorder)
        try:
            measure(0)
            ready, measured = time.perf_counter(), result.measuring_seconds
            for epoch in range(1, pack.shared.epochs + 1):
                batches = data.order(pack.seeds, epoch).split(pack.shared.batch_size, dim=1)
                for number, index_SB in enumerate(batches, 1):
                    if stopped():
                        raise Interrupted
                    due = trainer.step + 1 in trainer.evaluated
                    if due:  # the update that the evaluation reports
                        trainer.evaluator.keep_weights()
                    trainer.train_on(index_SB)
                    if due:
                        measure(epoch if number == len(batches) else epoch - 1 + number / len(batches))
            result.training_seconds = time.perf_counter() - ready - (result.measuring_seconds - measured)
            result.finite = trainer.finite_R.cpu().numpy()
            result.steps = trainer.steps_R.cpu().numpy()
            result.parameters = trainer.parameter_counts()
            result.units = [layer.units for layer in trainer.networks.sizes.layers]
        finally:  # it refers to the trainer: what lies on a GPU is given back now, not when garbage is looked for
            trainer.recorded = None
    result.seconds = time.perf_counter() - began
    return result
