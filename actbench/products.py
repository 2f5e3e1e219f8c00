"""Which library multiplies float32 matrices on the CPU.

torch multiplies them with MKL, which leaves half of an AMD processor's vector width unused; oneDNN does not, but takes
ten times as long to start (measured: tests/benchmarks/NOTES.md). So small products are MKL's and large ones oneDNN's,
pack by pack. torch takes oneDNN's path only if it may round inputs to bfloat16, which oneDNN does on processors with
bfloat16 matrix units and not elsewhere. So the permission is given only if a product then still has float32's accuracy.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch

_turn = threading.Condition()
_users: list[bool] = []  # of each pack that trains now, whether it wants oneDNN: all the same
_before = ""


@contextlib.contextmanager
def products(*, large: bool) -> Iterator[bool]:
    """Products of float32 matrices by oneDNN if they are ``large`` and that is exact; yields whether oneDNN is in use.

    torch has one setting for the whole process. Threads that want the other one wait until nobody needs this one, so that
    figures do not depend on who else trains.
    """
    wanted = large and _can_be_exact()
    with _turn:
        _turn.wait_for(lambda: all(one == wanted for one in _users))
        if wanted and not _users:
            _set(True)
        _users.append(wanted)
    try:
        yield wanted
    finally:
        with _turn:
            _users.remove(wanted)
            if wanted and not _users:
                _set(False)
            _turn.notify_all()


def _set(on: bool) -> None:
    global _before
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    if on:
        _before = matmul.fp32_precision
    matmul.fp32_precision = "bf16" if on else _before


@cache
def _can_be_exact() -> bool:
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    if not hasattr(matmul, "fp32_precision") or not torch.backends.mkldnn.is_available():
        return False
    with _turn:
        _turn.wait_for(lambda: not _users)
        _set(True)
        try:
            return products_are_float32(torch.bmm)
        finally:
            _set(False)


def products_are_float32(bmm: Any) -> bool:
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
