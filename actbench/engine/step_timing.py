"""How long a training step of two kinds of networks takes, measured in turn, so that whatever disturbs one disturbs the other."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from actbench.data.datasets import Data
from actbench.engine.device_data import DeviceData
from actbench.engine.networks.layer_activation import LayerActivation
from actbench.engine.one_thread import one_thread
from actbench.engine.products import products
from actbench.engine.trainer import Trainer
from actbench.plan.pack import Pack
from actbench.plan.pack_plan import PackPlan, plan_pack
from actbench.study.spec import RunSpec

PAIRS, WARM_UP, FUNCTION_PAIRS = 400, 20, 200


@torch.no_grad()
def time_steps(first: tuple[RunSpec, ...], second: tuple[RunSpec, ...], data: Data) -> dict[str, float]:
    """Seconds of a training step of two packs of as many networks and the same seeds, and of their activations alone.

    Both are measured one after the other, 400 times, on one core. ``ratio`` is the median over pairs of second / first, ``low``
    and ``high`` its distribution-free 95 % interval; ``function_*`` is the same of φ and φ′ alone, on the values of all hidden
    layers.
    """
    device = "cpu"
    plans = [plan_pack(Pack(specs, tuple(spec.seed for spec in specs)), data.shape, device) for specs in (first, second)]
    with one_thread(device), products(plans[0].products):
        steps, functions = [], []
        for plan in plans:
            on_device = DeviceData(data, plan, device)
            trainer = Trainer(plan, on_device)
            batch = on_device.order(plan.pack.seeds, 1)[:, : plan.spec.batch_size]
            steps.append(lambda trainer=trainer, batch=batch: trainer.step(batch))
            functions.append(_function(plan, on_device.dtype))
        whole = _in_turn(steps[0], steps[1], PAIRS)
        alone = _in_turn(functions[0], functions[1], FUNCTION_PAIRS)
    return {**whole, **{f"function_{name}": value for name, value in alone.items()}, "networks": len(first)}


def _function(plan: PackPlan, dtype: torch.dtype) -> Callable[[], None]:
    """φ and its derivative for all hidden layers of a step, on standard normal z."""
    generator = torch.Generator().manual_seed(0)
    layers: list[tuple[LayerActivation, Tensor]] = []
    for place, layer in enumerate(plan.sizes.layers):
        shape = (len(plan.pack), layer.pre, plan.spec.batch_size * layer.positions)
        layers.append(
            (LayerActivation(plan.pack, place, layer.pre, "cpu", dtype), torch.randn(shape, generator=generator, dtype=dtype))
        )

    def run() -> None:
        for activation, z in layers:
            activation.backward(activation.forward(z))

    return run


def _in_turn(first: Callable[[], object], second: Callable[[], object], pairs: int) -> dict[str, float]:
    seconds = np.zeros((pairs + WARM_UP, 2))
    for one in seconds:
        for place, step in enumerate((first, second)):
            began = time.perf_counter()
            step()
            one[place] = time.perf_counter() - began
    seconds = seconds[WARM_UP:]
    ratios = np.sort(seconds[:, 1] / seconds[:, 0])
    reach = 1.96 * np.sqrt(pairs) / 2  # of the median, in places of the sorted ratios: binomial
    low, high = (float(ratios[int(np.clip(round(pairs / 2 + side * reach), 0, pairs - 1))]) for side in (-1, 1))
    medians = np.median(seconds, axis=0)
    return {
        "ratio": float(np.median(ratios)),
        "low": low,
        "high": high,
        "first": float(medians[0]),
        "second": float(medians[1]),
        "pairs": pairs,
    }
