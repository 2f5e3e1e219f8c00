"""How float32 matrices are multiplied while a pack trains: by which library on the CPU, with tensor cores on a GPU or not.

On the CPU torch multiplies them with MKL, which leaves half of an AMD processor's vector width unused; oneDNN does not, but
takes ten times as long to start (measured: tests/benchmarks/NOTES.md). So small products are MKL's and large ones oneDNN's:
the plan of a pack says which. torch takes oneDNN's path only if it may round inputs to bfloat16, which oneDNN does on
processors with bfloat16 matrix units and not elsewhere. So the permission is given only if a product then still has
float32's accuracy.

On a GPU, tensor cores may round factors to TensorFloat-32, which changes nothing where they have been rounded already.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

_cpu, _gpu, _convolution = torch.backends.mkldnn.matmul, torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
KINDS: dict[str, dict[Any, str]] = {  # kind → the precision of each library; convolutions on a GPU are TensorFloat-32 otherwise
    "plain": {_gpu: "ieee", _convolution: "ieee"}, "onednn": {_cpu: "bf16"}, "tf32": {_gpu: "tf32", _convolution: "ieee"},
}  # fmt: skip

_in_use = threading.RLock()  # torch has one setting for the whole process


@contextlib.contextmanager
def products(kind: str) -> Iterator[str]:
    """Products of float32 matrices of one of the KINDS; yields the kind in use: plain, where oneDNN would not be exact.

    Another thread that trains waits.
    """
    with _in_use:
        if kind == "onednn" and not _onednn_is_exact():
            kind = "plain"
        with _set(kind):
            yield kind


@contextlib.contextmanager
def _set(kind: str) -> Iterator[None]:
    before = {library: library.fp32_precision for library in KINDS[kind]}
    for library, precision in KINDS[kind].items():
        library.fp32_precision = precision
    try:
        yield
    finally:
        for library, precision in before.items():
            library.fp32_precision = precision


@cache
def _onednn_is_exact() -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    with _set("onednn"):
        return products_are_float32(torch.bmm)


def products_are_float32(bmm: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether products keep all of float32's 24 bits: asked with whole numbers of 20 bits times ±1, whose sums are exact."""
    draw = np.random.default_rng(0)
    used = 8  # inner places that are not 0: sums of eight such numbers have 23 bits
    for rows, inner, columns in ((16, 784, 128), (64, 64, 128), (64, 128, 784)):
        for long in (0, 1):  # the left factor is the one of many bits, then the right
            a, b = np.zeros((2, rows, inner), np.float32), np.zeros((2, inner, columns), np.float32)
            for place, factor in enumerate((a[:, :, :used], b[:, :used])):
                factor[:] = draw.integers(2**19, 2**20, factor.shape) if place == long else draw.choice([-1, 1], factor.shape)
            wanted = a[:, :, :used].astype(np.int64) @ b[:, :used].astype(np.int64)
            if not np.array_equal(bmm(torch.from_numpy(a), torch.from_numpy(b)).numpy(), wanted):
                return False
    return True
