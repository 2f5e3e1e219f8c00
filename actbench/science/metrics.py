"""The table of metrics: functions of statistics that are collected from the tensors of any network.

A *unit* is a neuron, or a channel over all positions, or a recurrent unit over all time steps; z is its pre-activation, h
its output, δ = ∂loss_i/∂z with loss_i the loss of example i. Every metric is computed over the probe set. Metrics of z and δ
are over pre-activations, metrics of h over outputs, where an activation has different numbers of them.

Shapes: R networks, U units of a layer, B values of a unit in a chunk (examples × positions), L layers.
A metric that cannot be computed is NaN, an empty field in the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actbench.base.lazy import torch
from actbench.science.layer_stats import LayerStats

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor

DORMANT_TAU = 0.025
GRAD_DORMANT_TAU = 0.01


def _dead(stats: LayerStats) -> Tensor:
    return stats.dead_RU


def _born_dead(stats: LayerStats) -> Tensor:
    return stats.dead_RU if stats.born_dead_RU is None else stats.born_dead_RU


def _died(stats: LayerStats) -> Tensor:
    return stats.dead_RU & ~_born_dead(stats)


def _revived(stats: LayerStats) -> Tensor:
    return ~stats.dead_RU & _born_dead(stats)


def _dormant(stats: LayerStats) -> Tensor:
    return stats.abs_h_RU <= DORMANT_TAU * stats.abs_h_RU.mean(1, keepdim=True)


def _grad_dormant(stats: LayerStats) -> Tensor:
    return stats.abs_delta_RU <= GRAD_DORMANT_TAU * stats.abs_delta_RU.mean(1, keepdim=True)


def _sparsity(stats: LayerStats) -> Tensor:
    return stats.zeros_RU / stats.examples


def _saturated(stats: LayerStats) -> Tensor:
    if stats.middle_R is None:
        return torch.full_like(stats.abs_h_RU, torch.nan)
    saturated = (stats.near_RU == stats.examples).to(torch.float64)
    return torch.where(stats.middle_R.view(-1, 1).isnan(), torch.nan, saturated)


@dataclass(frozen=True)
class Metric:
    """One metric: a description, where it is defined, and its function of ``LayerStats``.

    ``over`` is what the function returns and how layers combine to a network's figure: ``units`` ([R, U], the mean over
    all hidden units), ``norm`` ([R], the root of the sum of squares), ``ratio`` ([R], the ratio of such roots) or ``layer``
    ([R], per layer only).
    """

    summary: str
    source: str
    over: str
    compute: Callable[[LayerStats], Tensor]


METRICS: dict[str, Metric] = {
    "dead_fraction": Metric("units with h exactly 0 on every probe example", "Lu 2019; Dohare 2024", "units", _dead),
    "born_dead_fraction": Metric("units dead at epoch 0", "Lu 2019", "units", _born_dead),
    "died_fraction": Metric("units alive at epoch 0 and dead now, as a fraction of all", "Dohare 2024", "units", _died),
    "revived_fraction": Metric("units dead at epoch 0 and alive now, as a fraction of all", "Dohare 2024", "units", _revived),
    "dormant_fraction": Metric(
        "units with mean |h| ≤ 0.025 × the layer's mean |h|", "Sokar 2023, arXiv 2302.12902", "units", _dormant
    ),
    "grad_dormant_fraction": Metric(
        "units with mean |∂loss/∂z| ≤ 0.01 × the layer's mean", "arXiv 2505.24061", "units", _grad_dormant
    ),
    "sparsity": Metric("fraction of h values exactly 0", "Hurley & Rickard 2009", "units", _sparsity),
    "saturated_fraction": Metric(
        "bounded activations only: units within 1e-3 of an asymptote on every probe example", "Glorot & Bengio 2010",
        "units", _saturated,
    ),
    "activation_mean": Metric(
        "mean of h over units and examples", "Clevert 2016", "layer", lambda s: s.h.mean_R
    ),
    "activation_std": Metric(
        "standard deviation of h over units and examples", "Glorot & Bengio 2010", "layer",
        lambda s: s.h.std_R,
    ),
    "preactivation_mean": Metric("mean of z over units and examples", "He 2015", "layer", lambda s: s.z.mean_R),
    "preactivation_std": Metric(
        "standard deviation of z over units and examples", "He 2015", "layer", lambda s: s.z.std_R
    ),
    "grad_norm": Metric(
        "L2 norm of ∂(mean loss)/∂W of the layer; of the network: root of the sum of squares over its hidden layers",
        "Glorot & Bengio 2010", "norm", lambda s: s.grad_norm_R,
    ),
    "delta_norm": Metric(
        "root mean square over examples of the L2 norm, over units (and positions), of ∂loss_i/∂z", "Schoenholz 2017", "layer",
        lambda s: (s.delta.square_R / s.with_delta).sqrt(),
    ),
    "update_ratio": Metric(
        "L2 norm of the last update of W over the L2 norm of W", "Karpathy's rule of thumb (about 1e-3)", "ratio",
        lambda s: s.update_norm_R / s.weight_norm_R,
    ),
}  # fmt: skip

LAYER_COLUMNS = ("units", *METRICS)
NETWORK_METRICS = (
    *(name for name, metric in METRICS.items() if metric.over != "layer"),
    "delta_norm_ratio",
    "code_sparsity",
)
OF_NETWORK = {
    "delta_norm_ratio": ("delta_norm of layer 1 over that of the last hidden layer: below 1 δ vanishes, above 1 it explodes",
                         "Schoenholz 2017"),
    "code_sparsity": ("autoencoders only: sparsity of the code, the middle hidden layer", "Hurley & Rickard 2009"),
}  # fmt: skip


def layer_values(stats: LayerStats) -> dict[str, Tensor]:
    """Every metric of one layer, as [R] in float64."""
    values = {}
    for name, metric in METRICS.items():
        value = metric.compute(stats).to(torch.float64)
        values[name] = value.mean(1) if value.ndim == 2 else value
    return values


def network_values(layers: list[LayerStats]) -> dict[str, Tensor]:
    """The network-wide metrics, as [R] in float64: means over all hidden units, not means of layer means."""
    values = {}
    for name, metric in METRICS.items():
        if metric.over == "units":
            values[name] = torch.cat([metric.compute(stats).to(torch.float64) for stats in layers], 1).mean(1)
        elif metric.over == "norm":
            values[name] = _root_sum_square([metric.compute(stats) for stats in layers])
    values["update_ratio"] = _root_sum_square([s.update_norm_R for s in layers]) / _root_sum_square(
        [s.weight_norm_R for s in layers]
    )
    delta_norm = METRICS["delta_norm"].compute
    values["delta_norm_ratio"] = delta_norm(layers[0]) / delta_norm(layers[-1])
    return values


def _root_sum_square(values: list[Tensor]) -> Tensor:
    return torch.stack(values).to(torch.float64).square().sum(0).sqrt()
