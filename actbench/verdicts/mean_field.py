"""What a perceptron does at initialisation, layer by layer, for any elementwise activation: the mean-field theory of wide layers.

With independent weights of variance σw²/fan_in, a unit's z is normal about its bias, with variance s² = σw² times the mean square
of its inputs (Poole 2016). So one number per layer says everything, and expectations are integrals over one normal variable.
Layers of finite width scatter about that: to first order, the mean square of N units has a relative variance of
(E[φ⁴]/E[φ²]² − 1)/N, and what follows from it is carried from layer to layer by derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from actbench.verdicts.curves import KINKS, Function, special

STEP = 1e-3  # of log s², for derivatives
TINIEST, LARGEST = 1e-30, 1e30  # of s², beyond which float32 has no figures for z
REACH = 12.0  # of an integral, in standard deviations
SCALES = np.array([sign * 2.0**power for power in range(-20, 11, 2) for sign in (-1, 1)])  # at which an activation may bend
_X, _W = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class Chain:
    """The hidden layers of a perceptron at initialisation, and an input.

    ``gains`` are σw² of each layer, its fan_in times the variance of its weights; ``bounds``: its biases are ``bias`` plus a
    uniform draw from ± this; ``mean_square`` is that of the input; ``correlation``, of two examples' inputs, None if it is not
    known.
    """

    value: Function
    slope: Function
    units: tuple[int, ...]
    gains: tuple[float, ...]
    bounds: tuple[float, ...]
    bias: float = 0.0
    mean_square: float = 1.0
    correlation: float | None = None

    @cached_property
    def zero_set(self) -> tuple[tuple[float, float], ...]:
        """Where the activation is exactly 0."""
        return zeros_of(self.value)


@dataclass(frozen=True)
class Expected:
    """What is expected of one network, and how far networks of such widths are from it. Arrays are by layer; ``*_by_input`` are
    derivatives by ln of the input's mean square.
    """

    variances: np.ndarray  # s² of z about its bias
    scatter: (
        np.ndarray
    )  # variance of ln s² among networks of such widths: where it is not small, layers are too narrow for theory
    zeros: np.ndarray  # fraction of outputs exactly 0
    within: np.ndarray  # variance among a layer's units of their fraction, over so many examples as were asked for
    zeros_by_variance: np.ndarray  # derivative by ln s²
    zeros_by_input: np.ndarray
    log_ratios: np.ndarray  # ln of ‖δ‖² over that in the last hidden layer; NaN if slopes are 0
    log_ratio_variances: np.ndarray
    log_ratios_by_input: np.ndarray


def expected(chain: Chain, examples: int) -> Expected | None:
    """The expectations of a chain over so many examples; None if z has no finite or no positive variance somewhere."""
    layers = [_Layer(chain, place) for place in range(len(chain.units))]
    variances, here, change = [], [], []  # by layer: s², its moments, and their derivatives by ln s²
    inputs = chain.mean_square
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for layer, gain in zip(layers, chain.gains, strict=True):
            variances.append(gain * inputs)
            if not TINIEST < variances[-1] < LARGEST:
                return None
            here.append(layer.moments(variances[-1]))
            change.append((layer.moments(variances[-1] * np.exp(STEP)) - here[-1]) / STEP)
            inputs = here[-1][0]
    square, slopes, zeros, fourth, fourth_slope, mixed = np.array(here).T
    if not np.isfinite([here, change]).all() or not (square > 0).all():
        return None
    units, by_variance = np.array(chain.units), np.array(change)
    carried = by_variance[:, 0] / square  # the derivative of the next layer's ln s²
    scatter, by_input = np.zeros(len(units)), np.ones(len(units))
    shocks = (fourth / square**2 - 1) / units  # the relative variance of a layer's mean square, given the layer before
    for place in range(1, len(units)):
        scatter[place] = carried[place - 1] ** 2 * scatter[place - 1] + shocks[place - 1]
        by_input[place] = by_input[place - 1] * carried[place - 1]
    within = _within_unit(layers, np.array(variances), zeros, square, examples)
    more = (shocks, fourth_slope, mixed / square)
    ratios = np.array([_ratio(chain, first, slopes, by_variance[:, 1], carried, more) for first in range(len(units))])
    logs, own, sensitive = ratios.T
    zeros_by = by_variance[:, 2]
    ratio = (logs, own + sensitive**2 * scatter, sensitive * by_input)
    return Expected(np.array(variances), scatter, zeros, within, zeros_by, zeros_by * by_input, *ratio)


def _within_unit(layers: list[_Layer], variances: np.ndarray, zeros: np.ndarray, square: np.ndarray, examples: int) -> np.ndarray:
    """By layer, the variance among units of the fraction of examples at which a unit is 0: as if all examples were the same,
    unless their correlation is known."""
    within, correlation = zeros * (1 - zeros), layers[0].chain.correlation
    if correlation is None:
        return within
    for place, layer in enumerate(layers):
        both, product = layer.pairs(float(variances[place]), correlation)
        within[place] = within[place] / examples + (1 - 1 / examples) * max(both - zeros[place] ** 2, 0.0)
        correlation = min(max(product / float(square[place]), 0.0), 1.0)
    return within


def _ratio(
    chain: Chain, first: int, slopes: np.ndarray, slopes_by: np.ndarray, carried: np.ndarray, more: tuple[np.ndarray, ...]
) -> tuple[float, float, float]:
    """ln ‖δ‖² of a layer (``first``, from 0) over that of the last, its variance among networks whose s² is the same there, and
    its derivative by ln of that s².

    Summed over units, ‖δ‖² of a layer is σw² of the next times E[φ′²] times that of the next, whatever their sizes (Schoenholz
    2017). It scatters by its own sum over units, and by what the layers before have made of s².
    """
    between = slice(first, len(slopes) - 1)
    if not (slopes[between] > 0).all():
        return np.nan, np.nan, np.nan
    shocks, fourth_slope, mixed = (one[between] for one in more)
    slopes_by, carried = slopes_by[between], carried[between]
    units, slopes = np.array(chain.units)[between], slopes[between]
    sensitive = np.zeros(len(slopes) + 1)  # of the ratio to a layer's ln s²
    for place in range(len(slopes) - 1, -1, -1):
        sensitive[place] = slopes_by[place] / slopes[place] + carried[place] * sensitive[place + 1]
    own = (3 * fourth_slope / slopes**2 - 1) / units
    together = (mixed / slopes - 1) / units
    variance = sensitive[1:] ** 2 * shocks + own + 2 * sensitive[1:] * together
    gains = np.array(chain.gains[first + 1 :])
    return float(np.log(slopes * gains).sum()), float(variance.sum()), float(sensitive[0])


class _Layer:
    """Integrals over z of one layer of a chain."""

    def __init__(self, chain: Chain, place: int) -> None:
        self.chain = chain
        bound = chain.bounds[place]
        self.biases = chain.bias + bound * _X if bound else np.array([chain.bias])  # the values of a unit's bias
        self.weights = _W / 2 if bound else np.ones(1)

    def moments(self, variance: float) -> np.ndarray:
        """E[φ²], E[φ′²], P(φ = 0), E[φ⁴], E[φ′⁴], E[φ²φ′²] of z with variance s² about its bias."""
        total = np.zeros(6)
        for bias, weight in zip(self.biases, self.weights, strict=True):
            z, density = nodes(bias, variance**0.5)
            value, slope = self.chain.value(z) ** 2, self.chain.slope(z) ** 2
            one, two, *higher = (float(density @ power) for power in (value, slope, value**2, slope**2, value * slope))
            total += weight * np.array([one, two, float(self.silent(bias, variance**0.5)), *higher])
        return total

    def silent(self, mean: float | np.ndarray, std: float) -> np.ndarray:
        """P(φ(z) = 0) of normal z."""
        edges = [special.ndtr((high - mean) / std) - special.ndtr((low - mean) / std) for low, high in self.chain.zero_set]
        return np.sum(edges, axis=0) if edges else np.zeros(np.shape(mean))

    def pairs(self, variance: float, correlation: float) -> tuple[float, float]:
        """Of two examples whose z correlate so (apart from the bias): P(both are 0), E[φ(z)φ(z′)]."""
        t, w = _normal()
        shared, own = np.sqrt(variance * correlation), np.sqrt(variance * (1 - correlation))
        both = product = 0.0
        for bias, weight in zip(self.biases, self.weights, strict=True):
            mean_T = bias + shared * t
            silent_T = self.silent(mean_T, own) if own > 0 else np.zeros_like(t)
            value_T = self.chain.value(mean_T[:, None] + own * t) @ w
            both += weight * float(w @ silent_T**2)
            product += weight * float(w @ value_T**2)
        return both, product


@cache
def _normal() -> tuple[np.ndarray, np.ndarray]:
    t, w = np.polynomial.hermite_e.hermegauss(60)
    return t, w / w.sum()


def nodes(mean: float, std: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z and weights of an integral over N(mean, std²): Gauss-Legendre between kinks, and fine wherever activations bend."""
    low, high = mean - REACH * std, mean + REACH * std
    cuts = np.concatenate([mean + std * np.linspace(-REACH, REACH, 49), SCALES, KINKS])
    cuts = np.unique(cuts[(cuts >= low) & (cuts <= high)])
    half_P1, middle_P1 = np.diff(cuts)[:, None] / 2, (cuts[1:] + cuts[:-1])[:, None] / 2
    z = (middle_P1 + half_P1 * _X).ravel()
    density = np.exp(-(((z - mean) / std) ** 2) / 2) * (half_P1 * _W).ravel()
    return z, density / density.sum()


def zeros_of(value: Function) -> tuple[tuple[float, float], ...]:
    """The intervals on which an activation is exactly 0, by bisection between the points of a grid; of single points none."""
    ends = 200.0
    grid = np.linspace(-ends, ends, 4001) + 0.013  # off the kinks
    silent = value(grid) == 0
    places = np.flatnonzero(np.diff(silent.astype(int)))
    edges = []
    for place in places:
        inside, outside = (grid[place + 1], grid[place]) if silent[place + 1] else (grid[place], grid[place + 1])
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if value(np.array([middle]))[0] == 0 else (inside, middle)
        edges.append(round(float(inside), 12))
    if silent[0]:
        edges.insert(0, -np.inf)
    if silent[-1]:
        edges.append(np.inf)
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def silent_half(value: Function) -> bool:
    """Whether an activation is 0 on one side of the origin and nowhere on the other: a unit of symmetric weights is 0 for half
    of all draws, whatever its inputs."""
    return zeros_of(value) in (((-np.inf, 0.0),), ((0.0, np.inf),))


def alive_before(units: tuple[int, ...]) -> np.ndarray:
    """By layer, the probability that some unit of every layer before it fires for one example, where units are silent for half
    of all draws: ∏(1 − 2^−N). The last entry, one more than layers, is of all layers (Lu 2019, Rister & Rubin 2020)."""
    return np.concatenate([[1.0], np.cumprod(1 - 2.0 ** -np.array(units, float))])
