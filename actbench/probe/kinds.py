"""Which calls of torch's functions are activations, by the names of actbench's table.

A call is known by its function's name, so that ``F.relu``, ``torch.relu``, ``Tensor.relu`` and ``torch.relu_`` are one thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from actbench.science.activations import ACTIVATIONS, is_silent
from actbench.science.flatness import flat_bounds, flat_intervals

# a function's name → the entry of ACTIVATIONS, and what it takes after z
NAMED: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: (name, ()) for name in ("relu", "relu6", "selu", "gelu", "silu", "mish", "softsign", "sigmoid", "tanh")},
    "leaky_relu": ("leaky_relu", ("negative_slope",)),
    "prelu": ("prelu", ("weight",)),
    "elu": ("elu", ("alpha",)),
    "celu": ("celu", ("alpha",)),
    "softplus": ("softplus", ("beta", "threshold")),
    "hardtanh": ("hard_tanh", ("min_val", "max_val")),
    "hardsigmoid": ("hard_sigmoid", ()),
    "hardswish": ("hard_swish", ()),
    "clamp": ("relu", ("min", "max")),
    "clamp_min": ("relu", ("min",)),
}
# torch's other activation functions: they are listed as not seen
UNNAMED = {"glu", "hardshrink", "softshrink", "tanhshrink", "threshold", "rrelu", "logsigmoid", "log_sigmoid"}
# what autograd's graph calls activations: those that stand in it and were not seen are listed
NODES = {
    f"{name}Backward0"
    for name in (
        "Relu", "Tanh", "Sigmoid", "Gelu", "Silu", "Mish", "Elu", "LeakyRelu", "Hardtanh", "Hardsigmoid", "Hardswish",
        "Softplus", "PreluKernel", "LogSigmoid", "Glu", "Hardshrink", "Softshrink", "Threshold", "RreluWithNoise", "CudnnRnn",
        "MkldnnRnnLayer",
    )
}  # fmt: skip
# of what people write activations with by hand; they may be something else, which the graph does not tell
BY_HAND = {"WhereBackward0", "MaximumBackward0", "MinimumBackward0"}


@dataclass(frozen=True)
class Kind:
    """What a layer applies to z.

    Attributes:
        name: an entry of ACTIVATIONS, or the class of a module of a user's own.
        settings: of the entry, sorted.
        bounds: of a hard_tanh, where they are not −1 and 1; of a module of a user's own its ``asymptotes``.
    """

    name: str
    settings: tuple[tuple[str, float], ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own."""
        return self.name not in ACTIVATIONS

    @property
    def asymptotes(self) -> tuple[float, float] | None:
        """Low and high ones, None if it has no bounds."""
        return self.bounds if self.bounds or self.is_own else ACTIVATIONS[self.name].asymptotes

    @property
    def silent(self) -> bool:
        """Whether exact zeros count as silence."""
        return self.is_own or (0 in self.bounds if self.bounds else is_silent(self.name, dict(self.settings)))

    def flat(self, like: Tensor, slopes: Tensor | None) -> list[tuple[Tensor, Tensor]]:
        """Bounds of z between which it is flat, each [1, 1] or [1, U]; none where that is not defined."""
        if slopes is not None:
            return flat_bounds(slopes.detach().to(like.dtype).view(1, -1))
        if self.is_own:
            return []
        if self.bounds:
            intervals: Any = ((-torch.inf, self.bounds[0]), (self.bounds[1], torch.inf))
        else:
            intervals = flat_intervals(self.name, self.settings) or ()
        return [(like.new_full((1, 1), low), like.new_full((1, 1), high)) for low, high in intervals]


@dataclass(frozen=True)
class ActivationCall:
    """A call that applies an activation: h is ``function(z, *args, **kwargs)``, written into z's memory if ``in_place``."""

    kind: Kind
    base: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    in_place: bool
    slopes: Tensor | None = None


def activation_call(name: str, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> ActivationCall | None:
    """What a call of a function of this name, with z among its arguments, does; None if it is no activation of the table."""
    base = name.removesuffix("_") if not name.startswith("_") else name
    if base not in NAMED:
        return None
    entry, names = NAMED[base]
    more = dict(kwargs)
    z = args[0] if args else more.pop("input", None)
    if not isinstance(z, Tensor) or not z.is_floating_point() or "out" in more:
        return None
    positional = dict(zip((*names, "inplace"), args[1:], strict=False))
    given = {**positional, **more}
    in_place = base != name or bool(given.pop("inplace", False))
    more = {key: value for key, value in given.items() if value is not None}
    if base != name:
        function = getattr(F, base, None) or getattr(torch, base)
    kind = _kind(entry, base, given)
    slopes = given.get("weight") if base == "prelu" else None
    return ActivationCall(kind, base, function, (), more, in_place, slopes) if kind else None


def _kind(entry: str, base: str, given: Mapping[str, Any]) -> Kind | None:
    if base in ("clamp", "clamp_min"):  # the way some write ReLU; others are limits on numbers
        is_relu = isinstance(given.get("min"), (int, float)) and given["min"] == 0 and given.get("max") is None
        return Kind("relu") if is_relu else None
    if base == "hardtanh":
        bounds = float(given.get("min_val", -1.0)), float(given.get("max_val", 1.0))
        return {(-1.0, 1.0): Kind("hard_tanh"), (0.0, 6.0): Kind("relu6")}.get(bounds, Kind("hard_tanh", bounds=bounds))
    settings = {} if base == "prelu" else ACTIVATIONS[entry].settings
    return Kind(entry, tuple(sorted((name, float(given.get(name, default))) for name, default in settings.items())))
