"""Handing figures to whatever logs them: the ``log`` functions of W&B, MLflow, TensorBoard and Lightning, as they are."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

OF_LAYERS = ("dead_fraction", "dormant_fraction", "constant_fraction", "delta_norm", "grad_norm")
ONE_BY_ONE = ("value", "scalar_value")  # the second argument of a function that takes one figure
STEPS = ("step", "global_step")


def figures_of(network: Mapping[str, float], layers: Mapping[str, list[float]], names: list[str]) -> dict[str, float]:
    """Name → figure, of those that there are: ``actbench/dead_fraction``, ``actbench/layer1.0.relu/dead_fraction``."""
    found = {f"actbench/{name}": value for name, value in network.items()}
    for metric in OF_LAYERS:
        found |= {f"actbench/{_plain(name)}/{metric}": value for name, value in zip(names, layers[metric], strict=True)}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def send(log: Callable[..., Any], figures: Mapping[str, float], step: int) -> None:
    """Calls a function with the figures, in the form that its arguments ask for.

    ``log(figures, step=step)`` (``wandb.log``, ``mlflow.log_metrics``), ``log(figures)`` where it takes no step, or one by one
    ``log(name, figure, step)`` (TensorBoard's ``add_scalar``, ``mlflow.log_metric``).
    """
    try:
        names = list(inspect.signature(log).parameters)
    except (TypeError, ValueError):  # a function that does not tell, such as a built-in one
        names = []
    step_name = next((name for name in STEPS if name in names), None)
    more = {step_name: step} if step_name else {}
    if len(names) > 1 and names[1] in ONE_BY_ONE:
        for name, figure in figures.items():
            log(name, figure, **more)
    else:
        log(dict(figures), **more)


def _plain(name: str) -> str:
    """A layer's name in letters that every logger takes: ``features.relu()#2`` → ``features.relu_2``."""
    return re.sub(r"[^\w.-]+", "_", name.replace("()", "")).strip("_")
