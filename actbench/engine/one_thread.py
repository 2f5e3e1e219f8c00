"""How many cores a pack trains on: one, whatever the machine has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread(device: str) -> Iterator[None]:
    """Training on the CPU: one core a slot, since sums are split by cores and round accordingly; no denormal numbers."""
    if device.startswith("cuda"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # dying networks make denormal numbers, which are a hundred times slower
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_flush_denormal(False)
