"""The elementwise activations and their slopes in numpy, for what theory predicts without torch.

One that is not here has no theory: activations of a user's own, and those over several pre-activations (maxout, crelu).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from actbench.base.lazy import LazyModule
from actbench.science.activations import ACTIVATIONS, SELU_ALPHA, SELU_SCALE

special: Any = LazyModule("scipy.special")
Function = Callable[[np.ndarray], np.ndarray]
KINKS = (-3.0, -1.0, 0.0, 1.0, 3.0, 6.0)  # where some curve is not smooth


@dataclass(frozen=True)
class Curve:
    """An activation as functions of z, elementwise in float64."""

    value: Callable[..., np.ndarray]  # (z, **settings) -> φ(z)
    slope: Callable[..., np.ndarray]  # (z, **settings) -> φ′(z); at a kink either side's


def _leaky(slope: str) -> Curve:
    return Curve(lambda z, **s: np.where(z > 0, z, s[slope] * z), lambda z, **s: np.where(z > 0, 1.0, s[slope]))


def _exponential(z: np.ndarray) -> np.ndarray:
    """exp(min(z, 0)), without overflow where it is not used."""
    return np.exp(np.minimum(z, 0.0))


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


def _mish_slope(z: np.ndarray) -> np.ndarray:
    inner = np.tanh(np.logaddexp(z, 0))
    return inner + z * (1 - inner**2) * special.expit(z)


CURVES: dict[str, Curve] = {
    "identity": Curve(lambda z: z, np.ones_like),
    "relu": Curve(lambda z: np.maximum(z, 0), lambda z: z > 0),
    "leaky_relu": _leaky("negative_slope"),
    "prelu": _leaky("negative_slope"),  # at its initial slope
    "elu": Curve(
        lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
        lambda z, alpha: np.where(z > 0, 1.0, alpha * _exponential(z)),
    ),
    "selu": Curve(
        lambda z: SELU_SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        lambda z: SELU_SCALE * np.where(z > 0, 1.0, SELU_ALPHA * _exponential(z)),
    ),
    "celu": Curve(
        lambda z, alpha: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0) / alpha)),
        lambda z, alpha: np.where(z > 0, 1.0, _exponential(z / alpha)),
    ),
    "gelu": Curve(lambda z: z * special.ndtr(z), lambda z: special.ndtr(z) + z * _density(z)),
    "silu": Curve(lambda z: z * special.expit(z), lambda z: special.expit(z) * (1 + z * special.expit(-z))),
    "mish": Curve(lambda z: z * np.tanh(np.logaddexp(z, 0)), _mish_slope),
    "softplus": Curve(lambda z, beta: np.logaddexp(beta * z, 0) / beta, lambda z, beta: special.expit(beta * z)),
    "softsign": Curve(lambda z: z / (1 + np.abs(z)), lambda z: (1 + np.abs(z)) ** -2.0),
    "sigmoid": Curve(lambda z: special.expit(z), lambda z: special.expit(z) * special.expit(-z)),
    "tanh": Curve(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "hard_tanh": Curve(lambda z: np.clip(z, -1, 1), lambda z: np.abs(z) < 1),
    "hard_sigmoid": Curve(lambda z: np.clip(z / 6 + 0.5, 0, 1), lambda z: (np.abs(z) < 3) / 6),
    "hard_swish": Curve(
        lambda z: z * np.clip(z + 3, 0, 6) / 6, lambda z: np.where(np.abs(z) < 3, (2 * z + 3) / 6, np.where(z > 0, 1.0, 0.0))
    ),
    "relu6": Curve(lambda z: np.clip(z, 0, 6), lambda z: (z > 0) & (z < 6)),
    "relu_squared": Curve(lambda z: np.maximum(z, 0) ** 2, lambda z: 2 * np.maximum(z, 0)),
    "dark_relu": Curve(lambda z: np.minimum(z, 0), lambda z: z < 0),
}  # fmt: skip


def curve_of(name: str, settings: Mapping[str, Any]) -> tuple[Function, Function] | None:
    """(φ, φ′) of an activation at its settings (others of ``settings`` are ignored); None if it has no curve here."""
    curve = CURVES.get(name)
    if curve is None:
        return None
    defaults = ACTIVATIONS[name].settings
    known = {key: float(default if (given := settings.get(key)) is None else given) for key, default in defaults.items()}
    return (lambda z: curve.value(z, **known)), (lambda z: np.asarray(curve.slope(z, **known), float))
