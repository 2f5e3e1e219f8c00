"""The tables of metrics, as functions of statistics that are gathered from recorded tensors of any network.

A *unit* is a neuron, or a channel over all positions, or a recurrent unit over all time steps; z is its pre-activation, h
its output, δ = ∂loss_i/∂z with loss_i the loss of example i. Every metric is taken over the probe set; where an activation
changes shapes, metrics of z and δ are over pre-activations, those of h over outputs. Shapes: R networks, U units of a layer,
B values of a unit in a chunk (examples × positions), L layers.
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


class Moments:
    """Sum and squares of one kind of tensor over units and examples, [R] in float64.

    Squares are taken of values that are centred on the first chunk's mean, so that float32 does not cancel. Where some
    network's values are so large or small that squares would leave float32's range, they are scaled by a power of two
    near the first chunk's mean size; that costs a pass over memory, which ordinary values do not need.
    """

    def __init__(self, *, centre: bool = True) -> None:
        self.count = 0
        self.total_R: Any = 0.0
        self.square_R: Any = 0.0  # of what was centred
        self.centred = centre
        self.centre_R: Any = 0.0
        self.scale_R: Any = None  # None: as they are

    def add(self, x_RUB: Any, scratch: Any) -> None:
        """Adds a chunk."""
        values = x_RUB.shape[1] * x_RUB.shape[2]
        first = not self.count
        self.count += values
        if first:
            size_R = torch.abs(x_RUB, out=scratch).sum(-1).sum(1, dtype=torch.float64) / values
            self.scale_R = _scale_if_needed(size_R)
        if self.centred:
            total_R = x_RUB.sum(-1).sum(1, dtype=torch.float64)
            self.total_R = self.total_R + total_R
            if first:
                self.centre_R = (total_R / values).to(x_RUB.dtype)
            x_RUB = torch.sub(x_RUB, self.centre_R.view(-1, 1, 1), out=scratch)
        self.square_R = self.square_R + _square_sums(x_RUB, self.scale_R, scratch)

    @property
    def mean_R(self) -> Any:
        """The mean, [R]."""
        return self.total_R / self.count

    @property
    def std_R(self) -> Any:
        """The standard deviation (of the whole population, not a sample), [R]."""
        off_R = self.mean_R - self.centre_R.to(torch.float64)
        return (self.square_R / self.count - off_R.square()).clamp_min(0).sqrt()


def _scale_if_needed(size_R: Any) -> Any:
    """Powers of two near the values' mean sizes, [R] in float64; None where all are such that float32 can square them."""
    usable = size_R.isfinite() & (size_R > 0)
    if not bool((usable & ((size_R < 1e-9) | (size_R > 1e9))).any()):
        return None
    exponent_R = torch.frexp(torch.where(usable, size_R, 1.0)).exponent
    return torch.ldexp(torch.ones_like(size_R), exponent_R)


def _square_sums(x_RUB: Any, scale_R: Any, scratch: Any) -> Any:
    """Sums of squares over units and examples, [R] in float64."""
    if scale_R is not None:
        x_RUB = torch.mul(x_RUB, (1 / scale_R).to(x_RUB.dtype).view(-1, 1, 1), out=scratch)
    norm_RU = torch.linalg.vector_norm(x_RUB, dim=-1).to(torch.float64)
    square_R = norm_RU.square().sum(1)
    return square_R if scale_R is None else square_R * scale_R.square()


def l2_norms(tensors: list[Any]) -> Any:
    """The L2 norm over all of each network's tensors [R, …], [R] in float64, of whatever size their values are."""
    squares = 0.0
    for tensor in tensors:
        w_ROI = tensor.reshape(*tensor.shape[:2], -1)
        square_R = _square_sums(w_ROI, None, None)
        if not bool(((square_R > 1e-18) & (square_R < 1e30)).all()):  # float32's squares may have left its range
            scratch = torch.empty_like(w_ROI)
            size_R = _abs_sums(w_ROI, scratch).mean(1) / w_ROI.shape[2]
            square_R = _square_sums(w_ROI, _scale_if_needed(size_R), scratch)
        squares = squares + square_R
    return torch.as_tensor(squares).sqrt()


class LayerStats:
    """Sums over the probe set for one hidden layer, gathered chunk by chunk.

    Attributes:
        examples: how many values of each unit were observed: examples, times positions.
        with_delta: how many examples' δ were observed.
        zeros_RU, near_RU: values with h exactly 0; with h within 1e-3 of an asymptote.
        abs_h_RU, abs_delta_RU: sums of |h| and |δ|.
        h, z, delta: their moments over units, examples and positions.
        born_dead_RU: which units were dead at epoch 0 (None at epoch 0 itself).
        grad_norm_R, update_norm_R, weight_norm_R: L2 norms of ∂(mean loss)/∂W, of the last update of W (NaN before
            any), of W.
    """

    zeros_RU: Any
    near_RU: Any
    abs_h_RU: Any
    abs_delta_RU: Any
    grad_norm_R: Any
    update_norm_R: Any
    weight_norm_R: Any

    def __init__(self, asymptotes_R2: Any | None = None, born_dead_RU: Any | None = None) -> None:
        self.examples = self.with_delta = 0
        self.h, self.z, self.delta = Moments(), Moments(), Moments(centre=False)
        self.born_dead_RU = born_dead_RU
        self.middle_R: Any = None
        self.reach_R: Any = None
        if asymptotes_R2 is not None:
            self.middle_R = asymptotes_R2.mean(1).view(-1, 1, 1)
            self.reach_R = ((asymptotes_R2[:, 1] - asymptotes_R2[:, 0]) / 2 - ASYMPTOTE_MARGIN).view(-1, 1, 1)

    def observe(self, z_RUB: Any, h_RUB: Any) -> None:
        """Adds the outputs of a chunk of examples."""
        scratch = torch.empty_like(h_RUB)
        self.examples += h_RUB.shape[-1]
        self.h.add(h_RUB, scratch)
        self._add("abs_h_RU", _abs_sums(h_RUB, scratch))
        self._add("zeros_RU", torch.eq(h_RUB, 0, out=scratch).sum(-1))
        if self.middle_R is not None:
            torch.sub(h_RUB, self.middle_R.to(h_RUB.dtype), out=scratch).abs_()
            self._add("near_RU", torch.ge(scratch, self.reach_R.to(h_RUB.dtype), out=scratch).sum(-1))
        self.z.add(z_RUB, scratch if scratch.shape == z_RUB.shape else torch.empty_like(z_RUB))

    def observe_delta(self, delta_RUB: Any, examples: int) -> None:
        """Adds δ of a chunk of so many examples: of each example's own loss, not of the mean."""
        self.with_delta += examples
        scratch = torch.empty_like(delta_RUB)
        self._add("abs_delta_RU", _abs_sums(delta_RUB, scratch))
        self.delta.add(delta_RUB, scratch)

    def _add(self, name: str, value: Any) -> None:
        if (so_far := getattr(self, name, None)) is None:
            setattr(self, name, value)
        else:
            so_far.add_(value)

    @property
    def units(self) -> int:
        """How many units the layer has."""
        return int(self.zeros_RU.shape[1])

    @property
    def dead_RU(self) -> Any:
        """Which units gave exactly 0 on every example."""
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


def _abs_sums(x_RUB: Any, scratch: Any) -> Any:
    return torch.abs(x_RUB, out=scratch).sum(-1).to(torch.float64)


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
    "delta_norm_ratio": ("delta_norm of layer 1 over that of the last hidden layer: below 1 it vanishes, above 1 it explodes",
                         "Schoenholz 2017"),
    "code_sparsity": ("of an autoencoder: sparsity of its code, the middle hidden layer", "Hurley & Rickard 2009"),
}  # fmt: skip


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
