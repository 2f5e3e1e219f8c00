"""The table of initialisations: base noise in, weights out, one function and one entry each.

An init turns standard normal noise into weights. Networks of one seed and shape get the same noise whatever their
init (uniform distributions take it through Φ), so that differences between inits are paired differences.

``he_*``, ``xavier_*`` and ``lecun_*`` use the plain textbook variances whatever the activation; ``gain_*`` ask for the
activation's gain. Shapes: S seeds, O units of the layer (fan_out), I its inputs (fan_in).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actbench.lazy import torch


@dataclass(frozen=True)
class Init:
    """One initialisation.

    Attributes:
        formula: the distribution of a weight.
        source: who proposed it.
        weights: ``(noise_SOI, gain) -> weights_SOI``.
        wants_gain: whether it uses the activation's gain (else it gets 1).
    """

    formula: str
    source: str
    weights: Callable[[Any, float], Any]
    wants_gain: bool = False


def _fans(noise: Any) -> tuple[int, int]:
    return noise.shape[-1], noise.shape[-2]


def _normal(noise: Any, std: float) -> Any:
    return noise * std


def _uniform(noise: Any, bound: float) -> Any:
    return (torch.special.ndtr(noise) * 2 - 1) * bound


def _orthogonal(noise: Any, gain: float) -> Any:
    """Orthonormal rows or columns, the fewer; Q of QR with R's diagonal positive is uniform (Mezzadri 2007)."""
    tall = noise if noise.shape[-2] >= noise.shape[-1] else noise.transpose(-1, -2)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return (q if tall is noise else q.transpose(-1, -2)) * gain


def _identity(noise: Any, gain: float) -> Any:
    fan_in, fan_out = _fans(noise)
    if fan_in != fan_out:
        return _normal(noise, fan_in**-0.5)
    return torch.eye(fan_in, dtype=noise.dtype).expand_as(noise).clone()


INITS: dict[str, Init] = {
    "he_normal": Init("N(0, 2/fan_in)", "He et al. 2015", lambda n, g: _normal(n, (2 / _fans(n)[0]) ** 0.5)),
    "he_uniform": Init("U(±√(6/fan_in))", "He et al. 2015", lambda n, g: _uniform(n, (6 / _fans(n)[0]) ** 0.5)),
    "xavier_normal": Init(
        "N(0, 2/(fan_in + fan_out))", "Glorot & Bengio 2010", lambda n, g: _normal(n, (2 / sum(_fans(n))) ** 0.5)
    ),
    "xavier_uniform": Init(
        "U(±√(6/(fan_in + fan_out)))", "Glorot & Bengio 2010", lambda n, g: _uniform(n, (6 / sum(_fans(n))) ** 0.5)
    ),
    "lecun_normal": Init("N(0, 1/fan_in)", "LeCun et al. 1998", lambda n, g: _normal(n, _fans(n)[0] ** -0.5)),
    "lecun_uniform": Init("U(±√(3/fan_in))", "LeCun et al. 1998", lambda n, g: _uniform(n, (3 / _fans(n)[0]) ** 0.5)),
    "uniform_fan_in": Init(
        "U(±1/√fan_in)", "the old rule that Glorot & Bengio 2010 measure against",
        lambda n, g: _uniform(n, _fans(n)[0] ** -0.5),
    ),
    "torch_default": Init(
        "U(±1/√fan_in), the weights of torch.nn.Linear (biases start at `bias`, as everywhere here)", "PyTorch",
        lambda n, g: _uniform(n, _fans(n)[0] ** -0.5),
    ),
    "gain_normal": Init(
        "N(0, gain²/fan_in), gain = 1/√E[φ(ξ)²] of the activation", "He et al. 2015, generalised",
        lambda n, g: _normal(n, g * _fans(n)[0] ** -0.5), wants_gain=True,
    ),
    "gain_uniform": Init(
        "U(±gain·√(3/fan_in)), gain = 1/√E[φ(ξ)²] of the activation", "He et al. 2015, generalised",
        lambda n, g: _uniform(n, g * (3 / _fans(n)[0]) ** 0.5), wants_gain=True,
    ),
    "orthogonal": Init("a uniform orthogonal matrix: it keeps norms", "Saxe et al. 2014", lambda n, g: _orthogonal(n, 1)),
    "gain_orthogonal": Init(
        "gain × a uniform orthogonal matrix, gain = 1/√E[φ(ξ)²] of the activation", "Saxe et al. 2014", _orthogonal,
        wants_gain=True,
    ),
    "identity": Init("the identity where a layer is square, else lecun_normal", "Le et al. 2015", _identity),
    "normal": Init("N(0, 0.01²), whatever the fan", "Krizhevsky et al. 2012", lambda n, g: _normal(n, 0.01)),
    "zeros": Init("0: every unit of a layer stays the same", "the symmetry that random weights break",
                  lambda n, g: torch.zeros_like(n)),
}  # fmt: skip
