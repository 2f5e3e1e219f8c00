"""Factors of matrix products rounded as hardware rounds them: to TensorFloat-32 or bfloat16, with sums in float32.

The product of two such numbers is exact in float32, so that rounding first and multiplying in float32 gives, up to the
order of sums, what tensor cores give; and their effect on results can be measured on any machine.

Source: https://docs.nvidia.com/cuda/parallel-thread-execution/ (tf32: 8 bits of exponent, 10 of mantissa)
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOAT32_MANTISSA = 23


def rounded(t: Tensor, bits: int) -> Tensor:
    """float32 numbers with so many bits of their mantissa, to nearest, ties to even; NaN stays NaN."""
    drop = FLOAT32_MANTISSA - bits
    whole = t.view(torch.int32)
    odd = (whole >> drop).bitwise_and_(1)
    near = odd.add_(whole).add_((1 << (drop - 1)) - 1).bitwise_and_(-(1 << drop)).view(torch.float32)
    return torch.where(t == t, near, t)  # a NaN whose bits are all set, as GPUs make it, would become 0
