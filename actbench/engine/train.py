"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from actbench.engine.evaluation import Evaluation
from actbench.engine.trainer import Trainer


@torch.no_grad()
def train(trainer: Trainer) -> Iterator[Evaluation]:
    """Trains all networks of a pack; yields what was measured at initialisation and whenever their plan says.

    When it ends, ``trainer.measurements`` is whole. It may be left off at any evaluation.
    """
    plan, data, measurements = trainer.plan, trainer.data, trainer.measurements
    began = time.perf_counter()
    try:
        yield trainer.evaluate(0)
        for epoch in range(1, plan.spec.epochs + 1):
            started = time.perf_counter()
            batches = data.order(plan.pack.seeds, epoch).split(plan.spec.batch_size, dim=1)
            for number, index_SB in enumerate(batches, 1):
                due = trainer.steps + 1 in plan.evaluated
                if due:
                    trainer.evaluator.keep_weights()  # the evaluation reports the last update
                trainer.step(index_SB)
                if due:
                    trainer.finish_steps()
                    measurements.training_seconds += time.perf_counter() - started
                    yield trainer.evaluate(epoch if number == len(batches) else epoch - 1 + number / len(batches))
                    started = time.perf_counter()
            measurements.training_seconds += time.perf_counter() - started
        trainer.finish()
        measurements.seconds = time.perf_counter() - began
    finally:
        trainer.close()
