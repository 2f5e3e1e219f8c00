"""The table of activations. An entry is all that an activation needs.

``forward(z, **settings)`` is any differentiable torch expression. ``backward(dh, z, h, **settings)`` gives ∂loss/∂z from
∂loss/∂h, in the memory of dh if possible. It is optional: without it autograd computes the gradient, and training a network
takes about a tenth longer. An entry's init gain, 1/√E[φ(ξ)²] with ξ ~ N(0, 1), is computed by quadrature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from actbench.base.errors import UserError
from actbench.base.lazy import functional as F
from actbench.base.lazy import torch

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@dataclass(frozen=True)
class Activation:
    """One activation."""

    formula: str
    derivative: str  # in mathematical notation, as the formula
    source: str  # who proposed it
    forward: Callable[..., Tensor]  # (z, **settings) -> h, elementwise
    backward: Callable[..., Tensor] | None = None  # (dh, z, h, **settings) -> dz; None: autograd
    from_output: bool = False  # whether ``backward`` reads only h, so that z need not be kept
    in_place: Callable[[Tensor], Tensor] | None = None  # z -> h in the memory of z; with ``from_output`` and no settings
    increasing: bool = False  # whether h never decreases in z, for all values of the settings
    silent: bool = False  # whether h is 0 on an interval of z: elsewhere an exact 0 is underflow, and no unit is dead
    exact: bool = False  # whether h and its derivative are the same on every processor: comparisons and at most one product
    settings: Mapping[str, float] = field(default_factory=dict)  # fields of RunSpec and their defaults
    trained: tuple[str, ...] = ()  # the settings that are the initial value of a trained parameter, one per unit
    asymptotes: tuple[float, float] | None = None  # (low, high) of a bounded activation
    # (**settings) -> (pre-activations, outputs) per unit of width, where these are not (1, 1); ``forward`` then gets units in
    # dimension 2 of [S, K, units, …]
    units: Callable[..., tuple[int, int]] | None = None


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation("z", "1", "the linear network", lambda z: z, lambda dh, z, h: dh, increasing=True, exact=True),
    "relu": Activation(
        "max(z, 0)", "1 if z > 0 else 0", "Nair & Hinton 2010; Glorot, Bordes & Bengio 2011",
        lambda z: torch.relu(z),
        lambda dh, z, h: torch.ops.aten.threshold_backward.grad_input(dh, h, 0, grad_input=dh),
        from_output=True, in_place=lambda z: torch.relu_(z), increasing=True, silent=True, exact=True,
    ),
    "leaky_relu": Activation(
        "z if z > 0 else negative_slope·z", "1 if z > 0 else negative_slope", "Maas, Hannun & Ng 2013",
        lambda z, negative_slope: F.leaky_relu(z, negative_slope),
        lambda dh, z, h, negative_slope: torch.ops.aten.leaky_relu_backward.grad_input(
            dh, z, negative_slope, False, grad_input=dh
        ),
        settings={"negative_slope": 0.01}, exact=True,
    ),
    "prelu": Activation(
        "z if z > 0 else a·z, a trained per unit from negative_slope", "1 if z > 0 else a", "He et al. 2015",
        lambda z, negative_slope: torch.where(z > 0, z, negative_slope * z),
        settings={"negative_slope": 0.25}, trained=("negative_slope",),
    ),
    "elu": Activation(
        "z if z > 0 else alpha·(exp(z) − 1)", "1 if z > 0 else alpha·exp(z)", "Clevert, Unterthiner & Hochreiter 2016",
        lambda z, alpha: F.elu(z, alpha),
        lambda dh, z, h, alpha: torch.ops.aten.elu_backward.grad_input(dh, alpha, 1.0, 1.0, False, z, grad_input=dh),
        settings={"alpha": 1.0},
    ),
    "selu": Activation(
        "1.0507·(z if z > 0 else 1.6733·(exp(z) − 1))", "1.0507·(1 if z > 0 else 1.6733·exp(z))", "Klambauer et al. 2017",
        lambda z: F.selu(z),
        lambda dh, z, h: torch.ops.aten.elu_backward.grad_input(dh, SELU_ALPHA, SELU_SCALE, 1.0, False, z, grad_input=dh),
        increasing=True,
    ),
    "celu": Activation(
        "max(z, 0) + min(0, alpha·(exp(z/alpha) − 1))", "1 if z > 0 else exp(z/alpha)", "Barron 2017",
        lambda z, alpha: F.celu(z, alpha),
        lambda dh, z, h, alpha: torch.ops.aten.elu_backward.grad_input(dh, alpha, 1.0, 1.0 / alpha, False, z, grad_input=dh),
        settings={"alpha": 1.0},
    ),
    "gelu": Activation(
        "z·Φ(z), Φ the normal distribution function", "Φ(z) + z·φ(z)", "Hendrycks & Gimpel 2016",
        lambda z: F.gelu(z),
        lambda dh, z, h: torch.ops.aten.gelu_backward.grad_input(dh, z, approximate="none", grad_input=dh),
    ),
    "silu": Activation(
        "z·σ(z), also called swish", "σ(z)·(1 + z·(1 − σ(z)))", "Elfwing et al. 2017; Ramachandran et al. 2017",
        lambda z: F.silu(z),
        lambda dh, z, h: torch.ops.aten.silu_backward.grad_input(dh, z, grad_input=dh),
    ),
    "mish": Activation(
        "z·tanh(softplus(z))", "tanh(s) + z·(1 − tanh(s)²)·σ(z), s = softplus(z)", "Misra 2019",
        lambda z: F.mish(z),
        lambda dh, z, h: torch.ops.aten.mish_backward(dh, z),
    ),
    "softplus": Activation(
        "log(1 + exp(beta·z))/beta, and z where beta·z > 20", "σ(beta·z)", "Dugas et al. 2001",
        lambda z, beta: F.softplus(z, beta),
        lambda dh, z, h, beta: torch.ops.aten.softplus_backward.grad_input(dh, z, beta, 20.0, grad_input=dh),
        settings={"beta": 1.0}, increasing=True,
    ),
    "softsign": Activation(
        "z/(1 + |z|)", "1/(1 + |z|)²", "Bergstra et al. 2009",
        lambda z: F.softsign(z),
        lambda dh, z, h: dh.div_(z.abs().add_(1).square_()),
        asymptotes=(-1.0, 1.0), increasing=True,
    ),
    "sigmoid": Activation(
        "σ(z) = 1/(1 + exp(−z))", "σ(z)·(1 − σ(z))", "the logistic function",
        lambda z: torch.sigmoid(z),
        lambda dh, z, h: torch.ops.aten.sigmoid_backward.grad_input(dh, h, grad_input=dh),
        from_output=True, in_place=lambda z: z.sigmoid_(), asymptotes=(0.0, 1.0), increasing=True,
    ),
    "tanh": Activation(
        "tanh(z)", "1 − tanh(z)²", "LeCun et al. 1998",
        lambda z: torch.tanh(z),
        lambda dh, z, h: torch.ops.aten.tanh_backward.grad_input(dh, h, grad_input=dh),
        from_output=True, in_place=lambda z: z.tanh_(), asymptotes=(-1.0, 1.0), increasing=True,
    ),
    "hard_tanh": Activation(
        "min(max(z, −1), 1)", "1 if −1 < z < 1 else 0", "Collobert 2004",
        lambda z: F.hardtanh(z),
        lambda dh, z, h: torch.ops.aten.hardtanh_backward.grad_input(dh, z, -1.0, 1.0, grad_input=dh),
        asymptotes=(-1.0, 1.0), increasing=True, exact=True,
    ),
    "hard_sigmoid": Activation(
        "min(max(z/6 + 1/2, 0), 1)", "1/6 if −3 < z < 3 else 0", "Courbariaux et al. 2015; slope of Howard et al. 2019",
        lambda z: F.hardsigmoid(z),
        lambda dh, z, h: torch.ops.aten.hardsigmoid_backward.grad_input(dh, z, grad_input=dh),
        asymptotes=(0.0, 1.0), increasing=True, silent=True,
    ),
    "hard_swish": Activation(
        "z·min(max(z + 3, 0), 6)/6", "0 below −3, 1 above 3, else (2z + 3)/6", "Howard et al. 2019",
        lambda z: F.hardswish(z),
        lambda dh, z, h: torch.ops.aten.hardswish_backward(dh, z),
        silent=True,
    ),
    "relu6": Activation(
        "min(max(z, 0), 6)", "1 if 0 < z < 6 else 0", "Krizhevsky 2010",
        lambda z: F.relu6(z),
        lambda dh, z, h: torch.ops.aten.hardtanh_backward.grad_input(dh, z, 0.0, 6.0, grad_input=dh),
        asymptotes=(0.0, 6.0), increasing=True, silent=True, exact=True,
    ),
    "relu_squared": Activation(
        "max(z, 0)²", "2·max(z, 0)", "So et al. 2021",
        lambda z: torch.relu(z).square(),
        lambda dh, z, h: torch.relu(z).mul_(2).mul_(dh),
        silent=True,
    ),
    "dark_relu": Activation(
        "min(z, 0)", "1 if z < 0 else 0", "relu turned about the origin, a control",
        lambda z: torch.clamp_max(z, 0),
        lambda dh, z, h: torch.ops.aten.threshold_backward.grad_input(dh, -h, 0, grad_input=dh),
        from_output=True, increasing=True, silent=True, exact=True,
    ),
    "maxout": Activation(
        "max over a unit's pieces z₁ … z_k, each linear in its inputs (k = pieces)", "1 for the largest piece, else 0",
        "Goodfellow et al. 2013",
        lambda z, pieces: z.unflatten(2, (-1, int(pieces))).max(3).values,
        settings={"pieces": 2}, units=lambda pieces: (int(pieces), 1),
    ),
    "crelu": Activation(
        "max(z, 0) and max(−z, 0): two outputs", "1 if z > 0 else 0, and −1 if z < 0 else 0", "Shang et al. 2016",
        lambda z: torch.relu(torch.cat([z, -z], 2)),
        units=lambda: (1, 2), silent=True,
    ),
}  # fmt: skip


def is_dotted(name: str) -> bool:
    """Whether a name refers to the user's own code (``package.module.Thing`` or ``package.module.Thing(slope=0.3)``)."""
    return "." in name.partition("(")[0]


def settings_of(name: str) -> Mapping[str, float]:
    """The settings of an activation and their defaults; none for the user's own (its arguments are part of its name)."""
    return {} if is_dotted(name) else ACTIVATIONS[name].settings


def units_of(name: str, settings: Mapping[str, float] | None = None) -> tuple[int, int]:
    """(pre-activations, outputs) per unit of width: (1, 1) for an elementwise activation."""
    if is_dotted(name) or (units := ACTIVATIONS[name].units) is None:
        return 1, 1
    return units(**(ACTIVATIONS[name].settings if settings is None else settings))


def is_silent(name: str, settings: Mapping[str, float]) -> bool:
    """Whether exact zeros count as silence: φ is 0 on an interval, or may be, being the user's own."""
    return is_dotted(name) or ACTIVATIONS[name].silent or settings.get("negative_slope") == 0


@cache
def gain(name: str, settings: tuple[tuple[str, float], ...] = ()) -> float:
    """1/√E[φ(ξ)²], ξ ~ N(0, 1): the factor on a weight's standard deviation 1/√fan_in that keeps E[z²] from layer to layer.

    Computed by the trapezoid rule on [−12, 12] in steps of 1/1000 (kinks at whole numbers fall on nodes), in float64.

    Args:
        name: an entry of the table.
        settings: its settings as sorted pairs; others have their defaults.
    """
    entry = ACTIVATIONS[name]
    given = {**entry.settings, **dict(settings)}
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    if "pieces" in given:  # maxout: the largest of k independent ξ has the density k·Φᵏ⁻¹·φ
        k = int(given["pieces"])
        h = z * (k * torch.special.ndtr(z) ** (k - 1)).sqrt()
    elif entry.units is not None:  # crelu: the root mean square of a unit's outputs
        h = entry.forward(z.view(1, 1, 1, -1)).square().mean(2).sqrt().flatten()
    else:
        h = entry.forward(z, **given)
    return gain_of_values(z, h, name)


def gain_of_values(z: Tensor, h: Tensor, name: str) -> float:
    """The gain from values h = φ(z) on an even grid z, by the trapezoid rule; UserError if φ is 0 or not finite there."""
    second_moment = float(torch.trapezoid(h.square() * torch.exp(-z.square() / 2), z)) / (2 * torch.pi) ** 0.5
    if not 0 < second_moment < float("inf"):
        raise UserError(f"activation: '{name}' has no init gain (E[φ(ξ)²] = {second_moment}); use an init that does not need it")
    return second_moment**-0.5
