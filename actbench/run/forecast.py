"""What a run would take: a few steps and one evaluation of each kind of pack are timed, and scaled up."""

from __future__ import annotations

import collections
import multiprocessing
import time
from collections.abc import Callable, Sequence

import psutil
import torch
from torch import Tensor

from actbench.base.errors import UserError
from actbench.data.datasets import Shape
from actbench.engine.device_data import DeviceData
from actbench.engine.one_thread import one_thread
from actbench.engine.products import products
from actbench.engine.trainer import Trainer
from actbench.launch.isolated import EndedError, isolated
from actbench.plan.architecture import architecture
from actbench.plan.costs import data_bytes, pack_bytes
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import plan_pack
from actbench.plan.schedule import batch_examples, evaluation_steps, examples
from actbench.run.prepare import Prepared
from actbench.study.spec import SETTINGS, RunSpec, settings_with

MOST_KINDS = 6
TIMED_SECONDS, TIMED_STEPS = 0.4, 50
LONG_SECONDS = 3.0  # what takes longer is not timed whole
SETUP_SECONDS = 0.02  # of a pack, beyond its weights
START_SECONDS = 1.5  # of a run: loading torch, most of all
SIDE_BY_SIDE = 1.25  # a pack takes so much longer while others train: they share caches and memory
GPU_FLOP = 2e12  # a second, of a GPU that cannot be timed here: a guess, by which packs go into jobs
LIGHT_PROCESS = 120 * 2**20


def forecast(prepared: Prepared, packs: list[Pack]) -> tuple[float, float, float]:
    """Seconds and bytes that a run takes, and the seconds of these in which it measures.

    Some packs are timed and scaled up; none is trained to its end, nothing is written. UserError if an activation of the user's
    own ends the process that it is tried in, or packs are for GPUs of a cluster and there is none here.
    """
    if prepared.on_gpu and not torch.cuda.is_available():
        raise UserError("there is no GPU here to time networks on: forecast where there is one, or with launcher.gpus=0")
    if prepared.own_activations and not multiprocessing.current_process().daemon:
        try:
            return isolated(_forecast, prepared, packs)
        except EndedError as error:
            names = ", ".join(dict(prepared.own_activations))
            raise UserError(f"activation: {names}: a network ended the process that timed it ({error})") from None
    return _forecast(prepared, packs)


def _forecast(prepared: Prepared, packs: list[Pack]) -> tuple[float, float, float]:
    base = float(psutil.Process().memory_info().rss)  # this process has loaded what a slot loads
    slots = max(1, min(prepared.slots, len(packs)))
    memory = _memory(prepared, packs, slots, base)
    if not packs:
        return 0.0, memory, 0.0
    seconds, measuring = (part * (1 if slots == 1 else SIDE_BY_SIDE / slots) for part in _seconds(prepared, packs))
    return START_SECONDS + seconds, memory, measuring


def pack_seconds(prepared: Prepared, packs: list[Pack]) -> Callable[[Pack], float]:
    """How long a pack takes while others train beside it, by the rates of ``packs``. A job's GPU that is not here is guessed."""
    if prepared.on_gpu and not torch.cuda.is_available():
        return lambda pack: SETUP_SECONDS + _work(pack, prepared) / GPU_FLOP
    if prepared.own_activations and not multiprocessing.current_process().daemon:
        rates, _ = isolated(_rates, prepared, packs)
    else:
        rates, _ = _rates(prepared, packs)
    usual = sum(rates.values()) / len(rates)
    return lambda pack: SIDE_BY_SIDE * rates.get(_kind(pack), usual) * _work(pack, prepared)


def _kind(pack: Pack) -> tuple:
    """Packs of one kind differ in how much they do alone."""
    alike = [name for name in SETTINGS if name not in settings_with("stacked")]
    return (*(getattr(pack.shared, name) for name in alike), len(pack.seeds) > 1)


def _rates(prepared: Prepared, packs: list[Pack]) -> tuple[dict[tuple, float], float]:
    """Seconds per unit of work of the costliest kinds of packs, and the part of all their seconds that goes into measuring."""
    kinds: dict[tuple, list[Pack]] = collections.defaultdict(list)
    for pack in packs:
        kinds[_kind(pack)].append(pack)
    work = {kind: sum(_work(pack, prepared) for pack in some) for kind, some in kinds.items()}
    rates, seconds, measuring = {}, 0.0, 0.0
    for kind in sorted(kinds, key=work.__getitem__, reverse=True)[:MOST_KINDS]:
        sample = kinds[kind][len(kinds[kind]) // 2]
        rest, measured = _time_pack(sample, prepared)
        rates[kind] = (rest + measured) / _work(sample, prepared)
        seconds += rates[kind] * work[kind]
        measuring += measured / _work(sample, prepared) * work[kind]
    return rates, measuring / seconds


def _seconds(prepared: Prepared, packs: list[Pack]) -> tuple[float, float]:
    """Of all packs, one after another, in all and for measuring: the costliest kinds are timed, others scaled by arithmetic."""
    work: dict[tuple, float] = collections.defaultdict(float)
    for pack in packs:
        work[_kind(pack)] += _work(pack, prepared)
    rates, share = _rates(prepared, packs)
    seconds = sum(rate * work[kind] for kind, rate in rates.items()) * sum(work.values()) / sum(work[kind] for kind in rates)
    return seconds, seconds * share


def _memory(prepared: Prepared, packs: list[Pack], slots: int, base: float) -> float:
    """Bytes of a run at its peak, of which each slot holds ``base`` before it trains."""
    shapes = prepared.shapes
    largest = sorted((pack_bytes(pack, shapes[pack.shared.dataset]) for pack in packs), reverse=True)[:slots]
    held = {tuple(getattr(pack.shared, name) for name in settings_with("data")): pack.shared for pack in packs}
    data = sum(data_bytes(spec, shapes[spec.dataset]) for spec in held.values())
    rows = 0.0
    for pack in packs:
        evaluations = len(evaluation_steps(pack.shared, shapes[pack.shared.dataset].train))
        rows += len(pack) * (1_500 + evaluations * (300 + 300 * pack.shared.depth))
    processes = base if prepared.on_gpu else LIGHT_PROCESS + slots * base
    return processes + sum(largest) + slots * data + rows


def _work(pack: Pack, prepared: Prepared) -> float:
    """Arithmetic of a pack: its training, and its evaluations in steps of the same cost an example."""
    spec, shape = pack.shared, prepared.shapes[pack.shared.dataset]
    evaluated = len(evaluation_steps(spec, shape.train)) * _evaluated_examples(spec, shape)
    seen = spec.epochs * examples(spec, shape.train) + evaluated
    return len(pack) * architecture(spec, shape).flop * seen


def _evaluated_examples(spec: RunSpec, shape: Shape) -> float:
    return min(spec.probe_size, examples(spec, shape.train)) + 0.5 * shape.test


@torch.no_grad()
def _time_pack(pack: Pack, prepared: Prepared) -> tuple[float, float]:
    """Seconds that a pack takes alone: for training and all else, and for measuring."""
    spec, data = pack.shared, prepared.data[pack.shared.dataset]
    plan = plan_pack(pack, data.shape, prepared.device)
    on_device = DeviceData(data, plan, prepared.device)
    with one_thread(prepared.device), products(plan.products):
        began = time.perf_counter()
        trainer = Trainer(plan, on_device)
        setup = SETUP_SECONDS + time.perf_counter() - began
        batches = on_device.order(pack.seeds, 1).split(spec.batch_size, dim=1)
        step = _time_steps(trainer, batches) if spec.epochs else 0.0
        evaluation = step * _evaluated_examples(spec, data.shape) / batch_examples(spec, data.shape.train)
        if evaluation < LONG_SECONDS:
            began = time.perf_counter()
            trainer.evaluate(0)
            evaluation = time.perf_counter() - began
        trainer.close()
    return setup + step * plan.steps, evaluation * len(plan.evaluated)


def _time_steps(trainer: Trainer, batches: Sequence[Tensor]) -> float:
    """Seconds a step, after the first."""
    began, steps = time.perf_counter(), 0
    trainer.step(batches[0])
    trainer.finish_steps()
    least = 1 if time.perf_counter() - began > LONG_SECONDS / 4 else 3
    began = time.perf_counter()
    while steps < least or (time.perf_counter() - began < TIMED_SECONDS and steps < TIMED_STEPS):
        trainer.step(batches[steps % len(batches)])
        trainer.finish_steps()
        steps += 1
    return (time.perf_counter() - began) / steps
