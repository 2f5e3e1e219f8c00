"""Memory in which every network's values begin on a whole number of vectors, so that they round alike in any company.

Two things would otherwise make a network's figures depend on where in a stack it stands. Matrix products of MKL round by how
their matrices lie in memory. And a processor computes elementwise functions several values at a time, the last few of a
tensor by other code, which rounds otherwise (exp, tanh and erf do). So the values of a network, if they do not fill whole
vectors, are followed by a gap.

Shapes: R networks; what follows is one network's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

VALUES = 64  # a network's values begin at a multiple of so many: more than any processor computes at a time


@functools.cache
def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    step = -(-prod(shape[1:]) // VALUES) * VALUES
    return (step, *(prod(shape[place + 1 :]) for place in range(1, len(shape))))


def new_aligned(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor [R, …] of like's type and device."""
    strides = _strides(shape)
    return like.new_empty(shape[0] * strides[0]).as_strided(shape, strides)


def aligned(t: Tensor) -> Tensor:
    """The tensor itself, or a copy whose networks begin on whole vectors, each dense in itself."""
    if t.stride() == _strides(t.shape) or t.device.type != "cpu":
        return t
    return new_aligned(t, t.shape).copy_(t)


def elementwise(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``function`` of tensors of one shape and memory order, value by value.

    Of aligned ones the gaps are computed, too. Of dense ones, in whose order the values of networks may be interleaved, the last
    values are computed again, as a part of a whole number of vectors.

    Args:
        function: may write into its tensors' memory.
        tensors: what it reads.
    """
    first, expected = tensors[0], _strides(tensors[0].shape)
    is_aligned = first.stride() == expected
    size = first.shape[0] * expected[0] if is_aligned else first.numel()
    if first.device.type != "cpu" or (is_aligned and size == first.numel()):
        return function(*tensors)
    flat = [t.as_strided((size,), (1,)) for t in tensors]  # as libraries may choose their code by the memory order
    rest = size % VALUES
    last = [torch.cat([t[-rest:], t.new_zeros(VALUES - rest)]) for t in flat if rest]  # before the function writes into them
    out = function(*flat)
    if rest:
        out[-rest:] = function(*last)[:rest]
    return out.as_strided(first.shape, first.stride())


def all_values(t: Tensor) -> Tensor:
    """The values of an aligned tensor and of its gaps as one row: a function of them computes whole vectors alone."""
    return t.as_strided((t.shape[0] * t.stride(0),), (1,))


def is_dense(t: Tensor) -> bool:
    """Whether a tensor's values fill its memory, without gaps or repetition: a new tensor then keeps its strides."""
    return torch.empty_like(t, device="meta").stride() == t.stride()


def multiply(a_RMK: Tensor, b_RKN: Tensor, into_RMN: Tensor, *, add: bool = False, shared: bool = False) -> None:
    """Puts (or adds) a @ b into memory that is there; ``shared``: b is [G, K, N], read by the R/G networks of each group."""
    if shared:  # group by group, even if each is one network: torch chooses its library by the size of a stack
        for a, b, into in zip(a_RMK.chunk(len(b_RKN)), b_RKN.split(1), into_RMN.chunk(len(b_RKN)), strict=True):
            multiply(a, b.expand(len(a), -1, -1), into, add=add)
    elif add:
        into_RMN.baddbmm_(a_RMK, b_RKN)
    else:
        torch.bmm(a_RMK, b_RKN, out=into_RMN)


def product(a_RMK: Tensor, b_RKN: Tensor, plus: Tensor | None = None) -> Tensor:
    """a @ b (+ plus), [R, M, N], for autograd."""
    (_, rows, inner), columns = a_RMK.shape, b_RKN.shape[2]
    if a_RMK.device.type != "cpu" or not (rows * inner % VALUES or inner * columns % VALUES or rows * columns % VALUES):
        return torch.bmm(a_RMK, b_RKN) if plus is None else torch.baddbmm(plus, a_RMK, b_RKN)
    found = _AlignedProduct.apply(a_RMK, b_RKN)
    return found if plus is None else found + plus


class _AlignedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return _bmm(aligned(a), aligned(b))

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        d = aligned(d)
        return _bmm(d, aligned(b).mT), _bmm(aligned(a).mT, d)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a, b, out=new_aligned(a, (len(a), a.shape[1], b.shape[2])))


class Buffers:
    """Aligned memory that a step uses again, so that nothing is allocated from step to step.

    Args:
        scratch: where the memory is kept, by name.

    Attributes:
        grown: how often memory was replaced by more.
    """

    def __init__(self, scratch: dict[str, Tensor]) -> None:
        self._scratch, self.grown = scratch, 0
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of this shape, with what was last written into it."""
        if (name, shape) not in self._views:
            strides, kept = _strides(shape), self._scratch.get(name)
            if kept is None or kept.numel() < shape[0] * strides[0]:
                kept = self._scratch[name] = like.new_empty(shape[0] * strides[0])
                self._views = {key: view for key, view in self._views.items() if key[0] != name}
                self.grown += 1
            self._views[name, shape] = kept.as_strided(shape, strides)
        return self._views[name, shape]
