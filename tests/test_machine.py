"""What the machine can do: the fast matrix product is taken only where it is exact float32."""

import pytest
import torch

from actbench.machine import _products_are_float32


def rounded(t, bits):
    """t with so many bits of its mantissa left, as hardware would keep them."""
    mantissa, exponent = torch.frexp(t)
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent)


class Product:
    from_numpy = staticmethod(torch.from_numpy)

    def __init__(self, left, right):
        self.left, self.right = left, right

    def bmm(self, a, b):
        return torch.bmm(rounded(a, self.left), rounded(b, self.right))


@pytest.mark.parametrize(
    ("left", "right", "exact"), [(24, 24, True), (8, 24, False), (24, 8, False), (11, 24, False), (24, 11, False)]
)
def test_a_product_that_rounds_either_factor_is_found_out(left, right, exact):
    assert _products_are_float32(Product(left, right)) is exact
