"""The tables of metrics, as functions of statistics that are gathered from recorded tensors of any network.

A *unit* is a neuron; z is its pre-activation, h its output, δ = ∂loss_i/∂z with loss_i the loss of example i. Every
metric is taken over the probe set. Shapes: R networks, U units of a layer, B examples of a chunk, L layers.
A metric that cannot be computed is NaN, an empty field in the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actbench.lazy import torch

DORMANT_TAU = 0.025
GRAD_DORMANT_TAU = 0.01
ASYMPTOTE_MARGIN = 1e-3


class LayerStats:
    """Sums over the probe set for one hidden layer, gathered chunk by chunk.

    Attributes:
        examples: how many examples were observed.
        zeros_RU, near_RU: examples with h exactly 0; with h within 1e-3 of an asymptote.
        abs_h_RU, sum_h_RU, abs_delta_RU: sums over examples.
        square_h_R, sum_z_R, square_z_R, square_delta_R: sums over units and examples.
        born_dead_RU: which units were dead at epoch 0 (None at epoch 0 itself).
        grad_norm_R, update_norm_R, weight_norm_R: L2 norms of ∂(mean loss)/∂W, of the last update of W (NaN before
            any), of W.
    """

    zeros_RU: Any
    near_RU: Any
    abs_h_RU: Any
    sum_h_RU: Any
    abs_delta_RU: Any
    square_h_R: Any
    sum_z_R: Any
    square_z_R: Any
    square_delta_R: Any
    grad_norm_R: Any
    update_norm_R: Any
    weight_norm_R: Any

    def __init__(self, asymptotes_R2: Any | None = None, born_dead_RU: Any | None = None) -> None:
        self.examples = 0
        self.born_dead_RU = born_dead_RU
        self.middle_R = self.reach_R = None
        if asymptotes_R2 is not None:
            self.middle_R = asymptotes_R2.mean(1).view(-1, 1, 1)
            self.reach_R = ((asymptotes_R2[:, 1] - asymptotes_R2[:, 0]) / 2 - ASYMPTOTE_MARGIN).view(-1, 1, 1)

    def observe(self, z_RUB: Any, h_RUB: Any, delta_RUB: Any) -> None:
        """Adds a chunk of examples. δ is of each example's own loss, not of the mean."""
        double = torch.float64
        norm = torch.linalg.vector_norm
        scratch = torch.empty_like(h_RUB)
        self.examples += h_RUB.shape[-1]
        self._add("zeros_RU", torch.eq(h_RUB, 0, out=scratch).sum(-1))
        self._add("abs_h_RU", torch.abs(h_RUB, out=scratch).sum(-1).to(double))
        self._add("abs_delta_RU", torch.abs(delta_RUB, out=scratch).sum(-1).to(double))
        self._add("sum_h_RU", h_RUB.sum(-1, dtype=double))
        self._add("sum_z_R", z_RUB.sum((1, 2), dtype=double))
        self._add("square_h_R", norm(h_RUB, dim=(1, 2), dtype=double).square())
        self._add("square_z_R", norm(z_RUB, dim=(1, 2), dtype=double).square())
        self._add("square_delta_R", norm(delta_RUB, dim=(1, 2), dtype=double).square())
        if self.middle_R is not None:
            torch.sub(h_RUB, self.middle_R, out=scratch).abs_()
            self._add("near_RU", torch.ge(scratch, self.reach_R, out=scratch).sum(-1))

    def _add(self, name: str, value: Any) -> None:
        if (so_far := getattr(self, name, None)) is None:
            setattr(self, name, value)
        else:
            so_far.add_(value)

    @property
    def units(self) -> int:
        return int(self.zeros_RU.shape[1])

    @property
    def dead_RU(self) -> Any:
        return self.zeros_RU == self.examples


def _dead(stats: Any) -> Any:
    return stats.dead_RU


def _born_dead(stats: Any) -> Any:
    return stats.dead_RU if stats.born_dead_RU is None else stats.born_dead_RU


def _died(stats: Any) -> Any:
    return stats.dead_RU & ~_born_dead(stats)


def _revived(stats: Any) -> Any:
    return ~stats.dead_RU & _born_dead(stats)


def _dormant(stats: Any) -> Any:
    return stats.abs_h_RU <= DORMANT_TAU * stats.abs_h_RU.mean(1, keepdim=True)


def _grad_dormant(stats: Any) -> Any:
    return stats.abs_delta_RU <= GRAD_DORMANT_TAU * stats.abs_delta_RU.mean(1, keepdim=True)


def _sparsity(stats: Any) -> Any:
    return stats.zeros_RU / stats.examples


def _saturated(stats: Any) -> Any:
    if stats.middle_R is None:
        return torch.full_like(stats.abs_h_RU, torch.nan)
    saturated = (stats.near_RU == stats.examples).to(torch.float64)
    return torch.where(stats.middle_R.view(-1, 1).isnan(), torch.nan, saturated)


def _mean(total: Any, stats: Any) -> Any:
    return total / (stats.examples * stats.units)


def _std(total: Any, square: Any, stats: Any) -> Any:
    return (_mean(square, stats) - _mean(total, stats).square()).clamp_min(0).sqrt()


@dataclass(frozen=True)
class Metric:
    """One metric: what it is in words, where it is defined, and its function of ``LayerStats``.

    ``over`` says what the function returns and how layers combine to a network's figure: ``units`` ([R, U], the mean
    over all hidden units), ``norm`` ([R], the root of the sum of squares) or ``layer`` ([R], per layer only).
    """

    summary: str
    source: str
    over: str
    compute: Callable[[LayerStats], Any]


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
        "mean of h over units and examples", "Clevert 2016", "layer", lambda s: _mean(s.sum_h_RU.sum(1), s)
    ),
    "activation_std": Metric(
        "standard deviation of h over units and examples", "Glorot & Bengio 2010", "layer",
        lambda s: _std(s.sum_h_RU.sum(1), s.square_h_R, s),
    ),
    "preactivation_mean": Metric("mean of z over units and examples", "He 2015", "layer", lambda s: _mean(s.sum_z_R, s)),
    "preactivation_std": Metric(
        "standard deviation of z over units and examples", "He 2015", "layer", lambda s: _std(s.sum_z_R, s.square_z_R, s)
    ),
    "grad_norm": Metric(
        "L2 norm of ∂(mean loss)/∂W of the layer; of the network: root of the sum of squares over its hidden layers",
        "Glorot & Bengio 2010", "norm", lambda s: s.grad_norm_R,
    ),
    "delta_norm": Metric(
        "root mean square over examples of the L2 norm over units of ∂loss_i/∂z", "Schoenholz 2017", "layer",
        lambda s: (s.square_delta_R / s.examples).sqrt(),
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
)
DELTA_NORM_RATIO = "delta_norm of layer 1 over that of the last hidden layer: below 1 it vanishes, above 1 it explodes"


def layer_values(stats: LayerStats) -> dict[str, Any]:
    """Every metric of one layer, as [R] in float64."""
    values = {}
    for name, metric in METRICS.items():
        value = metric.compute(stats).to(torch.float64)
        values[name] = value.mean(1) if value.ndim == 2 else value
    return values


def network_values(layers: list[LayerStats]) -> dict[str, Any]:
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


def _root_sum_square(values: list[Any]) -> Any:
    return torch.stack(values).to(torch.float64).square().sum(0).sqrt()
