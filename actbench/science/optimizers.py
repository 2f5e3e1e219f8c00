"""The table of optimizers: the update rules of torch.optim for stacked networks, with a learning rate per network.

Shapes: R networks, then the shape of one network's parameter. Settings per network are tensors [R, 1, …]. As in
torch.optim, weight decay acts on every trained parameter, biases included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actbench.base.lazy import torch

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
RMSPROP_ALPHA, RMSPROP_EPS = 0.99, 1e-8


@dataclass(frozen=True)
class Optimizer:
    """One update rule."""

    formula: str
    source: str  # who proposed it
    # (p, g, state, t, lr, momentum, nesterov): updates the parameter p in place from its gradient g, which it may overwrite;
    # state is this parameter's dict, t counts steps from 1
    step: Callable[..., None]
    settings: Mapping[str, float]  # fields of RunSpec and their defaults
    shrinks: bool = False  # whether weight decay makes p itself smaller, by the learning rate times it, and is not part of g


def _state(state: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    return state[name]


def _sgd(p: Tensor, g: Tensor, state: dict, t: int, lr: Tensor, momentum: Tensor | None, nesterov: bool) -> None:
    if momentum is not None:
        buffer = _state(state, "momentum", p)
        buffer.mul_(momentum).add_(g)
        g = g.addcmul_(buffer, momentum) if nesterov else buffer
    p.addcmul_(g, lr, value=-1)


def _adam(p: Tensor, g: Tensor, state: dict, t: int, lr: Tensor, momentum: None, nesterov: bool) -> None:
    beta1, beta2 = ADAM_BETAS
    mean, square = _state(state, "mean", p), _state(state, "square", p)
    mean.lerp_(g, 1 - beta1)
    square.mul_(beta2).addcmul_(g, g, value=1 - beta2)
    denominator = torch.sqrt(square, out=g).div_((1 - beta2**t) ** 0.5).add_(ADAM_EPS)
    p.addcmul_(torch.div(mean, denominator, out=g), lr / (1 - beta1**t), value=-1)


def _rmsprop(p: Tensor, g: Tensor, state: dict, t: int, lr: Tensor, momentum: Tensor | None, nesterov: bool) -> None:
    square = _state(state, "square", p)
    square.mul_(RMSPROP_ALPHA).addcmul_(g, g, value=1 - RMSPROP_ALPHA)
    g.div_(square.sqrt().add_(RMSPROP_EPS))
    if momentum is not None:
        g = _state(state, "momentum", p).mul_(momentum).add_(g)
    p.addcmul_(g, lr, value=-1)


OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(
        "v ← momentum·v + g; w ← w − lr·v (nesterov: w ← w − lr·(g + momentum·v))",
        "torch.optim.SGD; Sutskever et al. 2013", _sgd, {"momentum": 0.0, "nesterov": False},
    ),
    "adam": Optimizer("w ← w − lr·m̂/(√v̂ + 1e-8), betas (0.9, 0.999)", "torch.optim.Adam; Kingma & Ba 2015", _adam, {}),
    "adamw": Optimizer(
        "adam with w ← (1 − lr·weight_decay)·w first", "torch.optim.AdamW; Loshchilov & Hutter 2019", _adam, {}, shrinks=True
    ),
    "rmsprop": Optimizer(
        "s ← 0.99·s + 0.01·g²; v ← momentum·v + g/(√s + 1e-8); w ← w − lr·v",
        "torch.optim.RMSprop; Tieleman & Hinton 2012", _rmsprop, {"momentum": 0.0},
    ),
}  # fmt: skip


def settings_of(name: str, momentum: float | None) -> Mapping[str, Any]:
    """The settings of an optimizer and their defaults; nesterov only with momentum."""
    return {key: default for key, default in OPTIMIZERS[name].settings.items() if key != "nesterov" or momentum}
