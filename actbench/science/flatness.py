"""Where an activation is flat: where its slope is so small that it blocks gradients."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from actbench.base.lazy import torch
from actbench.science.activations import ACTIVATIONS, is_dotted

if TYPE_CHECKING:  # torch is loaded when it is first used
    from torch import Tensor

FLAT = 0.05  # of the largest slope
FAR = 1e4  # beyond which an activation is taken to go on as it is there
Intervals = tuple[tuple[float, float], ...]


@cache
def flat_intervals(name: str, settings: tuple[tuple[str, float], ...] = ()) -> Intervals | None:
    """The intervals of z (bounds included) in which abs φ′(z) is at most 5 % of φ's largest slope.

    They are found on a grid whose nodes include whole numbers, where kinks are, and refined by bisection in float64.

    Args:
        name: an entry of the table, or a user's own.
        settings: all its settings, as pairs.

    Returns:
        None where that is not defined: for a user's own activation, for one of several pre-activations, and for one whose
        slope has no bound.
    """
    if is_dotted(name) or ACTIVATIONS[name].units is not None:
        return None
    near = torch.arange(0, 16, 1 / 256, dtype=torch.float64)
    far = torch.logspace(4, torch.log2(torch.tensor(FAR)).item(), 2000, base=2, dtype=torch.float64)
    z = torch.cat([-far.flip(0), -near.flip(0)[:-1], near, far])
    slope = _slope(name, settings, z)
    largest = float(slope.max())
    if max(float(slope[0]), float(slope[-1])) > 1.5 * float(_slope(name, settings, z[[0, -1]] / 2).max()):
        return None
    flat = slope <= FLAT * largest
    edges = torch.nonzero(flat[1:] != flat[:-1]).flatten()
    inside, outside = (torch.where(flat[edges], z[edges + a], z[edges + b]) for a, b in ((0, 1), (1, 0)))
    for _ in range(60):
        middle = (inside + outside) / 2
        is_flat = _slope(name, settings, middle) <= FLAT * largest
        inside, outside = torch.where(is_flat, middle, inside), torch.where(is_flat, outside, middle)
    bounds = [-torch.inf] * bool(flat[0]) + inside.tolist() + [torch.inf] * bool(flat[-1])
    return tuple(zip(bounds[::2], bounds[1::2], strict=True))


def _slope(name: str, settings: tuple[tuple[str, float], ...], z: Tensor) -> Tensor:
    """abs φ′(z), by autograd."""
    with torch.enable_grad():
        leaf = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(ACTIVATIONS[name].forward(leaf, **dict(settings)).sum(), leaf)
    return slope.abs()


def flat_bounds(slope_RU: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The flat intervals of units whose slope below 0 is trained, and 1 above: pairs of bounds [R, U]."""
    small, one = slope_RU.abs() <= FLAT, torch.ones_like(slope_RU)
    below = torch.where(small, -torch.inf, torch.inf), torch.where(small, 0.0, -torch.inf)
    large = FLAT * slope_RU.abs() >= one
    tiny = torch.finfo(slope_RU.dtype).tiny
    return [below, (torch.where(large, tiny, torch.inf), torch.where(large, torch.inf, -torch.inf))]
