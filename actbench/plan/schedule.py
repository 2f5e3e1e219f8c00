"""When a network is evaluated and how its learning rate changes, in steps."""

from __future__ import annotations

import math

from actbench.base.errors import UserError
from actbench.study.spec import RunSpec

MOST_EVALUATIONS = 1_000_000


def steps_per_epoch(spec: RunSpec, train: int) -> int:
    """Steps in one pass over the training examples in use, of a training split of ``train``."""
    return -(-examples(spec, train) // spec.batch_size)


def held_out(spec: RunSpec, train: int) -> int:
    """Number of examples of the training split that are held out for validation; one at least is left to train on."""
    return min(round(spec.validation_fraction * train), train - 1)


def examples(spec: RunSpec, train: int) -> int:
    """Number of training examples in use."""
    return min(train - held_out(spec, train), spec.train_size or train)


def batch_examples(spec: RunSpec, train: int) -> int:
    """Training examples in a full batch."""
    return min(spec.batch_size, examples(spec, train))


def evaluation_steps(spec: RunSpec, train: int) -> list[int]:
    """The steps after which a network is evaluated, in order, from 0 (initialisation) to the last step.

    Every ``eval_every`` epochs, every ``eval_steps`` steps, and ``eval_log`` times per tenfold steps: with 3, after 1, 2, 5,
    10, 22, 46, 100, … steps.

    Raises:
        UserError: they are more than anyone would read.
    """
    per_epoch = steps_per_epoch(spec, train)
    last = spec.epochs * per_epoch
    count = spec.epochs // spec.eval_every + (last // spec.eval_steps if spec.eval_steps else 0)
    if count > MOST_EVALUATIONS:
        raise UserError(
            f"eval_every={spec.eval_every}, eval_steps={spec.eval_steps}: {count:,} evaluations of a network in {last:,} steps; "
            f"the most is {MOST_EVALUATIONS:,}"
        )
    steps = {0, last, *range(0, last, spec.eval_every * per_epoch)}
    if spec.eval_steps:
        steps.update(range(0, last, spec.eval_steps))
    if spec.eval_log and last:
        steps |= {round(10 ** (k / spec.eval_log)) for k in range(int(spec.eval_log * math.log10(last)) + 1)}
    return sorted(steps)


def lr_factor(kind: str, step: int, last: int) -> float:
    """The factor on the learning rate at a step, counted from 0, of ``last`` steps."""
    if kind == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / last))
    if kind == "step":
        return 0.1 ** ((2 * step >= last) + (4 * step >= 3 * last))
    return 1.0
