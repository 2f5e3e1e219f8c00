"""What a run would take: a few steps and one evaluation of each kind of pack are timed, as many at once as would run."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import torch

from actbench.plan.architecture import architecture
from actbench.data.datasets import Shape
from actbench.engine.device_data import DeviceData
from actbench.base.machine import cpu_count, process_memory
from actbench.plan.costs import data_bytes, matrix_products, pack_bytes
from actbench.engine.products import products
from actbench.run.loop import Prepared
from actbench.plan.schedule import evaluation_steps, examples
from actbench.study.spec import SETTINGS, STACKED, Pack, RunSpec
from actbench.engine.train import Trainer

MOST_KINDS = 6
TIMED_SECONDS = 0.4
LONG_SECONDS = 3.0  # what takes longer is not timed whole
SETUP_SECONDS = 0.02  # of a pack, beyond its weights
START_SECONDS = 1.5  # of a run: loading torch, most of all
LIGHT_PROCESS = 120 * 2**20


@dataclass
class Forecast:
    """Networks and packs to train, and what that takes in seconds and bytes."""

    networks: int
    packs: int
    seconds: float
    memory: float


def forecast(prepared: Prepared, packs: list[Pack], workers: int | None) -> Forecast:
    """Times a sample of the packs and scales it up; trains nothing to the end and writes nothing."""
    device, base = prepared.device, process_memory()
    workers = workers or (1 if device.startswith("cuda") else cpu_count())
    workers = max(1, min(workers, len(packs)))
    kinds: dict[tuple, list[Pack]] = {}
    for pack in packs:
        spec = pack.shared
        key = (*(getattr(spec, name) for name in SETTINGS if name not in STACKED), len(pack.seeds) > 1)
        kinds.setdefault(key, []).append(pack)
    # the costliest kinds are timed; the others are scaled by their arithmetic
    costly = sorted(kinds.values(), key=lambda some: -sum(_work(p, prepared) for p in some))
    seconds = timed_work = timed_seconds = 0.0
    for place, some in enumerate(costly):
        work = sum(_work(pack, prepared) for pack in some)
        if place < MOST_KINDS:
            sample = some[len(some) // 2]
            taken = _time_pack(sample, prepared, workers) * work / _work(sample, prepared)
            timed_work, timed_seconds = timed_work + work, timed_seconds + taken
            seconds += taken
        else:
            seconds += work * timed_seconds / timed_work
    shapes = prepared.shapes
    largest = sorted((pack_bytes(pack, shapes[pack.shared.dataset]) for pack in packs), reverse=True)[:workers]
    held = {
        (p.shared.dataset, p.shared.input_scaling, p.shared.dtype, p.shared.probe_size, p.shared.train_size): p.shared
        for p in packs
    }
    data = sum(data_bytes(spec, shapes[spec.dataset]) for spec in held.values())
    rows = sum(len(pack) * _row_bytes(pack.shared, shapes[pack.shared.dataset]) for pack in packs)
    # this process has loaded what a worker loads, torch above all; the run's own process is light
    processes = LIGHT_PROCESS + workers * base if device == "cpu" else base
    memory = processes + sum(largest) + workers * data + rows
    return Forecast(sum(map(len, packs)), len(packs), START_SECONDS + seconds / workers if packs else 0.0, memory)


def _row_bytes(spec: RunSpec, shape: Shape) -> float:
    return 1_500 + len(evaluation_steps(spec, shape.train)) * (300 + 300 * spec.depth)


def _work(pack: Pack, prepared: Prepared) -> float:
    """Arithmetic of a pack: its training, and its evaluations in steps of the same cost an example."""
    spec = pack.shared
    shape = prepared.shapes[spec.dataset]
    seen: float = spec.epochs * examples(spec, shape.train)
    seen += len(evaluation_steps(spec, shape.train)) * _evaluated_examples(spec, shape)
    return len(pack) * architecture(spec, shape).flop * seen


def _evaluated_examples(spec: RunSpec, shape: Shape) -> float:
    return min(spec.probe_size, examples(spec, shape.train)) + 0.5 * shape.test


def _time_pack(pack: Pack, prepared: Prepared, workers: int) -> float:
    """Seconds that a pack takes when ``workers`` of them train at once."""
    spec = pack.shared
    data = DeviceData(prepared.data[spec.dataset], spec, prepared.device)
    results: list[float] = []
    threads_before = torch.get_num_threads()

    def one() -> None:
        torch.set_num_threads(max(1, cpu_count() // workers))
        torch.set_flush_denormal(True)
        with torch.no_grad():
            results.append(_time_alone(pack, data))

    with products(matrix_products(pack, data.shape, prepared.device)):
        threads = [threading.Thread(target=one) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    torch.set_num_threads(threads_before)
    if len(results) < workers:
        raise RuntimeError("a pack could not be timed")
    return sum(results) / len(results)


def _time_alone(pack: Pack, data: DeviceData) -> float:
    spec = pack.shared
    began = time.perf_counter()
    trainer = Trainer(pack, data)
    setup = time.perf_counter() - began
    order = data.order(pack.seeds, 1).split(spec.batch_size, dim=1)
    step = 0.0
    if spec.epochs:
        began, steps = time.perf_counter(), 0
        trainer.train_step(*data.batch(order[0]))
        slow = time.perf_counter() - began
        began = time.perf_counter()
        while steps < (1 if slow > LONG_SECONDS / 4 else 3) or (time.perf_counter() - began < TIMED_SECONDS and steps < 50):
            trainer.train_step(*data.batch(order[steps % len(order)]))
            steps += 1
        step = (time.perf_counter() - began) / steps
    evaluation = step * _evaluated_examples(spec, data.shape) / min(spec.batch_size, examples(spec, data.shape.train))
    if evaluation < LONG_SECONDS:
        began = time.perf_counter()
        trainer.evaluate(0)
        evaluation = time.perf_counter() - began
    return setup + SETUP_SECONDS + step * spec.epochs * len(order) + evaluation * len(trainer.evaluated)
