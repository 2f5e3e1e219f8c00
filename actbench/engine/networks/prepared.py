"""Operations on memory that stays where it is, prepared once as calls without arguments.

Where tensors are small, choosing views and starting operations takes longer than computing. float32 on a CPU is multiplied by
numpy, which starts in a third of torch's time and fills wider vectors (measured: tests/benchmarks/NOTES.md).

Tensors are [R networks, …], each network's values dense in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from actbench.base.lazy import numpy

Call = Callable[[], object]


def multiplied(a: Tensor, b: Tensor, into: Tensor) -> Call:
    """into = a·b, value by value."""
    if by_numpy(a):
        return partial(numpy.multiply, *(t.flatten(1).numpy() for t in (a, b, into)))
    return partial(torch.mul, a, b, out=into)


def copied(source: Tensor, into: Tensor) -> Call:
    """into = source, which may be broadcast."""
    if by_numpy(source):
        return partial(numpy.copyto, into.numpy(), source.numpy())
    return partial(into.copy_, source)


def by_numpy(t: Tensor) -> bool:
    """Whether numpy computes with such values."""
    return t.device.type == "cpu" and t.dtype == torch.float32


def tanh_over(t: Tensor) -> Call:
    """tanh in the memory of t."""
    if by_numpy(t):
        values = (t if t.ndim == 1 else t.flatten(1)).numpy()
        return partial(numpy.tanh, values, values)
    return t.tanh_
