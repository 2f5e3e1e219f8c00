"""Memory in which every network's values begin on a whole number of vectors, so that they round alike in any company.

Two things would otherwise make a network's figures depend on where in a stack it stands. Matrix products of MKL round by how
their matrices lie in memory. And a processor computes elementwise functions several values at a time, the last few of a
tensor by other code, which rounds otherwise (exp, tanh and erf do). So the values of a network, if they do not fill whole
vectors, are followed by a gap.

Shapes: R networks; what follows is one network's.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

VALUES = 64  # a network's values begin at a multiple of so many: more than any processor computes at a time


def new_aligned(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """An empty tensor [R, …] of like's type and device."""
    return in_memory(like.new_empty(memory_size(shape)), shape)


def memory_size(shape: tuple[int, ...]) -> int:
    """How many values of memory an aligned tensor takes."""
    return shape[0] * _step(shape)


def in_memory(flat: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A tensor [R, …] in memory of ``memory_size(shape)`` values."""
    strides = [prod(shape[place + 1 :]) for place in range(1, len(shape))]
    return flat.as_strided(shape, (_step(shape), *strides))


def _step(shape: tuple[int, ...]) -> int:
    return -(-prod(shape[1:]) // VALUES) * VALUES


def is_aligned(t: Tensor) -> bool:
    """Whether the networks of a tensor [R, …] begin on whole vectors, each dense in itself."""
    return t.stride(0) == _step(t.shape) and t[0].is_contiguous()


def aligned(t: Tensor) -> Tensor:
    """The tensor itself, or a copy that is aligned."""
    if is_aligned(t) or t.device.type != "cpu":
        return t
    return new_aligned(t, tuple(t.shape)).copy_(t)


def elementwise(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """``function`` of aligned tensors [R, …] of one shape, value by value; the gaps are computed, too.

    Args:
        function: may write into its tensors' memory.
        tensors: what it reads.
    """
    first = tensors[0]
    if first.device.type != "cpu" or not prod(first.shape[1:]) % VALUES:
        return function(*tensors)
    size = (memory_size(tuple(first.shape)),)
    return in_memory(function(*(t.as_strided(size, (1,)) for t in tensors)), tuple(first.shape))


def elementwise_dense(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """The same of dense tensors of one memory order, whatever it is, in which the values of networks may be interleaved.

    The last values are computed again, as a part of a whole number of vectors.
    """
    if tensors[0].device.type != "cpu":
        return function(*tensors)
    flat = [t.as_strided((t.numel(),), (1,)) for t in tensors]  # as libraries may choose their code by the memory order
    rest = tensors[0].numel() % VALUES
    last = [torch.cat([t[-rest:], t.new_zeros(VALUES - rest)]) for t in flat if rest]  # before the function writes into them
    out = function(*flat)
    if rest:
        out[-rest:] = function(*last)[:rest]
    return out.as_strided(tensors[0].shape, tensors[0].stride())


def is_dense(t: Tensor) -> bool:
    """Whether a tensor's values fill its memory, without gaps or repetition."""
    expected = 1
    for size, stride in sorted(zip(t.shape, t.stride(), strict=True), key=lambda pair: pair[1]):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def product(a_RMK: Tensor, b_RKN: Tensor, plus: Tensor | None = None) -> Tensor:
    """a @ b (+ plus), [R, M, N], for autograd."""
    rows, inner, columns = a_RMK.shape[1], a_RMK.shape[2], b_RKN.shape[2]
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
        return _bmm(d, aligned(b).transpose(1, 2)), _bmm(aligned(a).transpose(1, 2), d)


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    return torch.bmm(a, b, out=new_aligned(a, (a.shape[0], a.shape[1], b.shape[2])))


class Buffers:
    """Aligned memory that a step uses again, so that nothing is allocated from step to step.

    Args:
        scratch: where the memory is kept, by name.
    """

    def __init__(self, scratch: dict[str, Tensor]) -> None:
        self._scratch = scratch
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def get(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of this shape, with what was last written into it."""
        found = self._views.get((name, shape))
        if found is not None:
            return found
        size, kept = memory_size(shape), self._scratch.get(name)
        if kept is None or kept.numel() < size:
            kept = self._scratch[name] = like.new_empty(size)
            self._views = {key: view for key, view in self._views.items() if key[0] != name}
        view = self._views[name, shape] = in_memory(kept[:size], shape)
        return view
