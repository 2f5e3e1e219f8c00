"""The table of metrics: functions of statistics that are collected from the tensors of any network.

A *unit* is a neuron, or a channel over all positions, or a recurrent unit over all time steps; z is its pre-activation, h
its output, δ = ∂loss_i/∂z with loss_i the loss of example i. Every metric is computed over the probe set. Metrics of z and δ
are over pre-activations, metrics of h over outputs, where an activation has different numbers of them.

Shapes: R networks, U units of a layer, B values of a unit in a chunk (examples × positions), L layers.
A metric that cannot be computed is NaN, an empty field in the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from actbench.base.lazy import torch
from actbench.science.layer_stats import LayerStats

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor

DORMANT_TAU = 0.025
GRAD_DORMANT_TAU = 0.01
CONSTANT_TAU = 0.01
FROZEN = "with batch norm it is of evaluation mode: through frozen statistics, not those of the batch, as training has it"
TIES = "where max pooling meets equal values (blank corners), which of them gets δ is open, and moves it by about 1e-5 of itself"


def _born_dead(stats: LayerStats) -> Tensor:
    return stats.dead_RU if stats.born_dead_RU is None else stats.born_dead_RU


def _saturated(stats: LayerStats) -> Tensor:
    if stats.asymptotes_R2 is None:
        return torch.full_like(stats.abs_h_RU, torch.nan)
    saturated = (stats.near_RU == stats.examples).to(torch.float64)
    return torch.where(stats.asymptotes_R2[:, :1].isnan(), torch.nan, saturated)


def _flat(stats: LayerStats) -> Tensor:
    if not stats.flat:
        return torch.full_like(stats.z.mean_RU, torch.nan)
    unknown = torch.stack([low.isnan() for low, _ in stats.flat]).any(0)
    return torch.where(unknown, torch.nan, stats.flat_RU / stats.z.count)


@dataclass(frozen=True)
class Described:
    """What a metric is, where it is defined, which values are ``better`` (``higher``, ``lower``, ``nearest 1`` or ``neither``),
    its ``blind`` spots: where its figures say something else than one would think; and whether it is ``of_loss``: cannot be had
    without a loss.
    """

    summary: str
    source: str
    better: str = field(default="neither", kw_only=True)
    blind: tuple[str, ...] = field(default=(), kw_only=True)
    of_loss: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Metric(Described):
    """A metric of layers with its function of ``LayerStats``.

    ``over`` is what the function returns and how layers combine to a network's figure: ``units`` ([R, U], the mean over
    all hidden units), ``norm`` ([R], the root of the sum of squares), ``ratio`` ([R], the ratio of such roots) or ``layer``
    ([R], per layer only).
    """

    over: str
    compute: Callable[[LayerStats], Tensor]


METRICS: dict[str, Metric] = {
    "dead_fraction": Metric(
        "units with h exactly 0 on every probe example, of activations that are 0 on an interval (others: 0)",
        "Lu 2019; Dohare 2024", "units", lambda s: s.dead_RU, better="lower",
    ),
    "born_dead_fraction": Metric("units dead at epoch 0", "Lu 2019", "units", _born_dead, better="lower"),
    "died_fraction": Metric(
        "units alive at epoch 0 and dead now, as a fraction of all", "Dohare 2024", "units",
        lambda s: s.dead_RU & ~_born_dead(s), better="lower",
    ),
    "revived_fraction": Metric(
        "units dead at epoch 0 and alive now, as a fraction of all", "Dohare 2024", "units",
        lambda s: ~s.dead_RU & _born_dead(s),
    ),
    "dormant_fraction": Metric(
        "units with mean |h| ≤ 0.025 × the layer's mean |h|", "Sokar 2023, arXiv 2302.12902", "units",
        lambda s: s.abs_h_RU <= DORMANT_TAU * s.abs_h_RU.mean(1, keepdim=True), better="lower",
    ),
    "grad_dormant_fraction": Metric(
        "units with mean |∂loss/∂z| ≤ 0.01 × the layer's mean",
        "after arXiv 2505.24061, which takes the gradient of a unit's weights, here of z", "units",
        lambda s: s.abs_delta_RU <= GRAD_DORMANT_TAU * s.abs_delta_RU.mean(1, keepdim=True), better="lower", blind=(FROZEN,),
        of_loss=True,
    ),
    "constant_fraction": Metric(
        "units whose standard deviation of h is at most 0.01 × the layer's mean of it: they say the same of every example",
        "death for any activation; after Sokar 2023", "units",
        lambda s: s.h.std_RU <= CONSTANT_TAU * s.h.std_RU.mean(1, keepdim=True), better="lower",
    ),
    "sparsity": Metric(
        "fraction of h values exactly 0, of activations that are 0 on an interval (others: 0)", "Hurley & Rickard 2009", "units",
        lambda s: s.zeros_RU / s.examples,
    ),
    "flat_fraction": Metric(
        "share of values z at which |φ′(z)| is at most 5 % of φ's largest slope, where gradients are blocked (ReLU: its zeros)",
        "after Glorot & Bengio 2010", "units", _flat, better="lower",
        blind=("empty for activations of one's own, of several pre-activations, and whose slope has no bound",),
    ),
    "saturated_fraction": Metric(
        "bounded activations only: units within 1e-3 of an asymptote on every probe example", "Glorot & Bengio 2010", "units",
        _saturated, better="lower",
    ),
    "activation_mean": Metric("mean of h over units and examples", "Clevert 2016", "layer", lambda s: s.h.mean_R),
    "unit_mean_abs": Metric(
        "mean over units of |the unit's mean of h|: how far units are from zero-centred", "Clevert 2016", "units",
        lambda s: s.h.mean_RU.abs(),
    ),
    "activation_std": Metric(
        "standard deviation of h over units and examples", "Glorot & Bengio 2010", "layer", lambda s: s.h.std_R
    ),
    "preactivation_mean": Metric("mean of z over units and examples", "He 2015", "layer", lambda s: s.z.mean_R),
    "preactivation_std": Metric("standard deviation of z over units and examples", "He 2015", "layer", lambda s: s.z.std_R),
    "grad_norm": Metric(
        "L2 norm of ∂(mean loss)/∂W of the layer; of the network: root of the sum of squares over its hidden layers",
        "Glorot & Bengio 2010", "norm", lambda s: s.grad_norm_R, blind=(FROZEN,), of_loss=True,
    ),
    "delta_norm": Metric(
        "root mean square over examples of the L2 norm, over units (and positions), of ∂loss_i/∂z", "Schoenholz 2017", "layer",
        lambda s: (s.delta.square_R / s.with_delta).sqrt(), blind=(FROZEN, TIES), of_loss=True,
    ),
    "update_ratio": Metric(
        "L2 norm of the last update of W over the L2 norm of W", "Karpathy's rule of thumb (about 1e-3)", "ratio",
        lambda s: s.update_norm_R / s.weight_norm_R,
        blind=("divides by the weights after the step, so where a step multiplies them (at high learning rates) it tends to 1",),
    ),
}  # fmt: skip

LAYER_COLUMNS = ("units", *METRICS)
OF_NETWORK = {
    "delta_norm_ratio": Described(
        "delta_norm of layer 1 over that of the last hidden layer: below 1 δ vanishes, above 1 it explodes",
        "Schoenholz 2017", better="nearest 1", blind=(FROZEN, TIES), of_loss=True),
    "grad_norm_total": Described(
        "L2 norm of ∂(mean loss)/∂(all trained parameters), output layer and biases included: what grad_clip compares",
        "Pascanu 2013", blind=(FROZEN,), of_loss=True),
    "code_sparsity": Described(
        "autoencoders only: sparsity of the code, the middle hidden layer (empty at even depth, where there is none)",
        "Hurley & Rickard 2009"),
}  # fmt: skip
NETWORK_METRICS = (*(name for name, metric in METRICS.items() if metric.over != "layer"), *OF_NETWORK)


def layer_values(stats: LayerStats) -> dict[str, Tensor]:
    """Every metric of one layer, as [R] in float64."""
    values = {name: metric.compute(stats).to(torch.float64) for name, metric in METRICS.items()}
    return {name: value.mean(1) if value.ndim == 2 else value for name, value in values.items()}


def network_values(layers: list[LayerStats]) -> dict[str, Tensor]:
    """The network-wide metrics, as [R] in float64: means over all hidden units, not means of layer means."""
    values = {}
    for name, metric in METRICS.items():
        if metric.over == "units":
            values[name] = torch.cat([metric.compute(stats).to(torch.float64) for stats in layers], 1).mean(1)
        elif metric.over == "norm":
            values[name] = _root_sum_square([metric.compute(stats) for stats in layers])
    update_norm_R = _root_sum_square([stats.update_norm_R for stats in layers])
    values["update_ratio"] = update_norm_R / _root_sum_square([stats.weight_norm_R for stats in layers])
    delta_norm = METRICS["delta_norm"].compute
    values["delta_norm_ratio"] = delta_norm(layers[0]) / delta_norm(layers[-1])
    return values


def _root_sum_square(values: list[Tensor]) -> Tensor:
    return torch.stack(values).to(torch.float64).square().sum(0).sqrt()
