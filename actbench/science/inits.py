"""The table of initialisations. Each is a function from base noise to weights.

An init turns standard normal noise into weights. Networks of one seed and shape get the same noise for every
init (uniform distributions take it through Φ), so that differences between inits are paired differences. A
convolution's weights are drawn as [O, I·P], with P the positions of its kernel; fans count positions.

``he_*``, ``xavier_*`` and ``lecun_*`` use the plain textbook variances for every activation; ``gain_*`` use the
activation's gain. Shapes: S matrices (the gates of a unit), O units of the layer, I its inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from actbench.base.lazy import torch

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor


@dataclass(frozen=True)
class Fans:
    """A layer's size: inputs, outputs, positions of a convolution's kernel (1 for other layers), units of a recurrent layer."""

    inputs: int
    outputs: int
    positions: int = 1
    units: int = 0

    @property
    def fan_in(self) -> int:
        """Inputs to one output value."""
        return self.inputs * self.positions

    @property
    def both(self) -> int:
        """fan_in + fan_out."""
        return (self.inputs + self.outputs) * self.positions


@dataclass(frozen=True)
class Init:
    """One initialisation."""

    formula: str  # the distribution of a weight
    source: str  # who proposed it
    weights: Callable[[Tensor, Fans, float], Tensor]  # (noise_SOI, fans, gain) -> weights_SOI
    wants_gain: bool = False  # whether it uses the activation's gain (otherwise ``gain`` is 1)
    # (weights_OI, more_noise_O3) -> (weights_OI, biases_O) of hidden layers, if the init sets biases, to which ``bias`` is added
    adjust: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    # (more_noise_O3, fans) -> biases_O of layers that are not normalised, the output layer too; ``bias`` is added to hidden ones
    biases: Callable[[Tensor, Fans], Tensor] | None = None
    version: int = 1  # raised when the init's numbers change, so that `run_id`s do


def _uniform(noise: Tensor, bound: float) -> Tensor:
    return (torch.special.ndtr(noise) * 2 - 1) * bound


def _orthogonal(noise: Tensor, gain: float) -> Tensor:
    """Orthonormal rows or columns, whichever are fewer. Q of QR with R's diagonal positive is uniform (Mezzadri 2007)."""
    tall = noise if noise.shape[-2] >= noise.shape[-1] else noise.transpose(-1, -2)
    q, r = torch.linalg.qr(tall)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    return (q if tall is noise else q.transpose(-1, -2)) * gain


def _identity(noise: Tensor, fans: Fans, gain: float) -> Tensor:
    if fans.inputs != fans.outputs:
        return noise * fans.fan_in**-0.5
    return _at_centre(torch.eye(fans.inputs, dtype=noise.dtype).expand(len(noise), -1, -1), fans)


def _delta_orthogonal(noise: Tensor, fans: Fans, gain: float) -> Tensor:
    return _at_centre(_orthogonal(noise.view(*noise.shape[:2], fans.inputs, -1)[..., fans.positions // 2], gain), fans)


def _at_centre(matrix_SOI: Tensor, fans: Fans) -> Tensor:
    """A kernel that is a matrix at its central position and 0 elsewhere."""
    kernel = torch.zeros(*matrix_SOI.shape, fans.positions, dtype=matrix_SOI.dtype)
    kernel[..., fans.positions // 2] = matrix_SOI
    return kernel.flatten(2)


def _torch_bound(fans: Fans) -> float:
    """torch's own layers are uniform in ± this: nn.Linear and nn.Conv2d by fan_in, nn.RNN and nn.LSTM by their units."""
    return (fans.units or fans.fan_in) ** -0.5


def _torch_biases(more_O3: Tensor, fans: Fans) -> Tensor:
    """One draw; of a recurrent layer the sum of two, since torch has a bias for inputs and one for the layer's own outputs."""
    return _uniform(more_O3[:, : 2 if fans.units else 1], _torch_bound(fans)).sum(1)


RAI_STD = 0.6007


def _asymmetric(w_OI: Tensor, more_O3: Tensor) -> tuple[Tensor, Tensor]:
    """Replaces one random entry of each unit's weights and bias, N(0, 0.6007²/fan_in), by a draw of Beta(2, 1) on [0, 1]."""
    inputs = w_OI.shape[1]
    bias_O1 = more_O3[:, :1] * RAI_STD * inputs**-0.5
    chosen_O1 = (torch.special.ndtr(more_O3[:, 1:2]) * (inputs + 1)).long().clamp_max(inputs)
    beta_O1 = torch.special.ndtr(more_O3[:, 2:]).sqrt()  # by inversion: P(X ≤ x) = x²
    both = torch.cat([w_OI, bias_O1], 1).scatter(1, chosen_O1, beta_O1)
    return both[:, :-1], both[:, -1]


INITS: dict[str, Init] = {
    "he_normal": Init("N(0, 2/fan_in)", "He et al. 2015", lambda n, f, g: n * (2 / f.fan_in) ** 0.5),
    "he_uniform": Init("U(±√(6/fan_in))", "He et al. 2015", lambda n, f, g: _uniform(n, (6 / f.fan_in) ** 0.5)),
    "xavier_normal": Init("N(0, 2/(fan_in + fan_out))", "Glorot & Bengio 2010", lambda n, f, g: n * (2 / f.both) ** 0.5),
    "xavier_uniform": Init(
        "U(±√(6/(fan_in + fan_out)))", "Glorot & Bengio 2010", lambda n, f, g: _uniform(n, (6 / f.both) ** 0.5)
    ),
    "lecun_normal": Init("N(0, 1/fan_in)", "LeCun et al. 1998", lambda n, f, g: n * f.fan_in**-0.5),
    "lecun_uniform": Init("U(±√(3/fan_in))", "LeCun et al. 1998", lambda n, f, g: _uniform(n, (3 / f.fan_in) ** 0.5)),
    "uniform_fan_in": Init(
        "U(±1/√fan_in)", "the old rule that Glorot & Bengio 2010 measure against", lambda n, f, g: _uniform(n, f.fan_in**-0.5)
    ),
    "torch_default": Init(
        "U(±1/√fan_in), weights and biases alike, the output layer's too, as torch.nn.Linear and Conv2d draw them; rnn and lstm: "
        "U(±1/√width), the bias being the sum of torch's two", "PyTorch",
        lambda n, f, g: _uniform(n, _torch_bound(f)), biases=_torch_biases, version=2,
    ),
    "gain_normal": Init(
        "N(0, gain²/fan_in), gain = 1/√E[φ(ξ)²] of the activation", "He et al. 2015, generalised",
        lambda n, f, g: n * (g * f.fan_in**-0.5), wants_gain=True,
    ),
    "gain_uniform": Init(
        "U(±gain·√(3/fan_in)), gain = 1/√E[φ(ξ)²] of the activation", "He et al. 2015, generalised",
        lambda n, f, g: _uniform(n, g * (3 / f.fan_in) ** 0.5), wants_gain=True,
    ),
    "orthogonal": Init("a uniform orthogonal matrix, which keeps norms", "Saxe et al. 2014", lambda n, f, g: _orthogonal(n, 1)),
    "gain_orthogonal": Init(
        "gain × a uniform orthogonal matrix, gain = 1/√E[φ(ξ)²] of the activation", "Saxe et al. 2014",
        lambda n, f, g: _orthogonal(n, g), wants_gain=True,
    ),
    "delta_orthogonal": Init(
        "gain × a uniform orthogonal matrix at the centre of a kernel, 0 elsewhere; without a kernel, as gain_orthogonal",
        "Xiao et al. 2018", _delta_orthogonal, wants_gain=True,
    ),
    "asymmetric": Init(
        "random asymmetric initialisation: N(0, 0.6007²/fan_in), but one random weight or bias of a hidden unit is Beta(2, 1)",
        "Lu et al. 2019", lambda n, f, g: n * (RAI_STD * f.fan_in**-0.5), adjust=_asymmetric,
    ),
    "identity": Init(
        "the identity (at the centre of a kernel) where a layer is square, else lecun_normal", "Le et al. 2015", _identity
    ),
    "normal": Init("N(0, 0.01²), for every fan", "Krizhevsky et al. 2012", lambda n, f, g: n * 0.01),
    "zeros": Init("0: every unit of a layer stays the same", "the symmetry that random weights break",
                  lambda n, f, g: torch.zeros_like(n)),
}  # fmt: skip
